"""Files of the Hugging Face hub: from its local cache, else fetched; by the driver alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tune_adaptive.errors import EnvironmentFault, last_line


def fetch(
    repo: str,
    kind: Literal["dataset", "model"],
    revision: str | None,
    patterns: Sequence[str],
    remedy: str,
) -> Path:
    """Return the folder of a repository's snapshot: the cached one, else a fetched one.

    Args:
        repo: ``owner/name``.
        kind: What the repository holds.
        revision: Commit; None is the newest there is.
        patterns: Files wanted, such as ``*.json``.
        remedy: What to do where neither works, for the message.

    Raises:
        EnvironmentFault: It is not in the cache and cannot be fetched: what was tried, and why
            it failed.
    """
    from huggingface_hub import constants, snapshot_download

    def snapshot(local_files_only: bool) -> Path:
        return Path(
            snapshot_download(
                repo,
                repo_type=kind,
                revision=revision,
                allow_patterns=list(patterns),
                local_files_only=local_files_only,
            )
        )

    try:
        cached = snapshot(local_files_only=True)
        if any(path.is_file() for pattern in patterns for path in cached.glob(pattern)):
            return cached
    except Exception:  # whatever it is: not in the cache
        pass
    try:
        return snapshot(local_files_only=False)
    except Exception as error:  # of the network, the server, the disk: all of them end here
        at = f"@{revision[:12]}" if revision else ""
        raise EnvironmentFault(
            f"{kind} {repo}{at}: not in the local hub cache ({constants.HF_HUB_CACHE}), and not "
            f"to be had from {constants.ENDPOINT}: {last_line(str(error)) or repr(error)}\n{remedy}"
        ) from error
