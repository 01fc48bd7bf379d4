"""Files of the Hugging Face hub: from its local cache, else fetched; by the driver alone."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from tune_adaptive.errors import EnvironmentFault, last_line


def fetch(
    repo: str,
    kind: Literal["dataset", "model"],
    revision: str | None,
    patterns: Sequence[str],
    lacking: Callable[[Path], Sequence[str]],
    remedy: str,
) -> Path:
    """Return the folder of a repository's snapshot: the cached one, else a fetched one.

    Args:
        repo: ``owner/name``.
        kind: What the repository holds.
        revision: Commit; None is the newest there is.
        patterns: Files wanted, such as ``*.json``.
        lacking: What a snapshot should have and has not; a cached one that lacks something, of
            a download that broke off, is completed.
        remedy: What to do where neither works, for the message.

    Raises:
        EnvironmentFault: It is not whole in the cache and cannot be fetched: what was tried,
            and why it failed.
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

    there = "not"
    with suppress(Exception):  # whatever it is: not in the cache
        cached = snapshot(local_files_only=True)
        if not lacking(cached):
            return cached
        there = "only in part"
    try:
        fetched = snapshot(local_files_only=False)
        if missing := lacking(fetched):  # the cache again, where the hub does not answer
            raise FileNotFoundError(", ".join(missing))
        return fetched
    except Exception as error:  # of the network, the server, the disk: all of them end here
        at = f"@{revision[:12]}" if revision else ""
        why = last_line(str(error)) or repr(error)
        raise EnvironmentFault(
            f"{kind} {repo}{at}: {there} in the local hub cache ({constants.HF_HUB_CACHE}), and "
            f"not to be had from {constants.ENDPOINT}: {why}\n{remedy}"
        ) from error
