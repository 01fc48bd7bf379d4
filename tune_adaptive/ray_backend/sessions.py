"""Where a Ray of our own keeps its sessions: a folder that its sockets' paths have room for.

Ray takes ``RAY_TMPDIR``, else ``TMPDIR``, else ``/tmp``, and fails where that is too deep, is
another user's or cannot be made: a job's scratch folder on a cluster often is too deep.
"""

import os
import sys
from pathlib import Path

from tune_adaptive.errors import EnvironmentFault
from tune_adaptive.system.user import own_folder

SOCKET_BYTES = 107 if sys.platform.startswith("linux") else 103
"""The longest path that a Unix socket may have [bytes]."""
LONGEST_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
SHARED_MEMORY = Path("/dev/shm")


def session_folder() -> Path:
    """Return the first folder that Ray can keep its sessions in; nothing is made.

    ``RAY_TMPDIR`` was chosen by a person: another is not taken in its place.

    Raises:
        EnvironmentFault: There is none.
    """
    if chosen := os.environ.get("RAY_TMPDIR"):
        folder = Path(chosen).absolute() / "ray"
        if problem := _problem(folder):
            raise EnvironmentFault(
                f"RAY_TMPDIR={chosen}: {problem}. Unset it, or name a short path that you may write"
            )
        return folder
    try:
        own = own_folder()
    except FileNotFoundError as error:  # Python has tried TMPDIR, /tmp, /var/tmp and others
        raise EnvironmentFault(f"{error.strerror}: set TMPDIR to one that you may write") from error
    places = (own.parent, Path("/tmp"), own, Path("/tmp", own.name))
    problems = []
    for folder in dict.fromkeys(place / "ray" for place in places):
        problem = _problem(folder)
        if not problem:
            return folder
        problems.append(f"{folder}: {problem}")
    raise EnvironmentFault(
        f"Ray has no folder for its sessions: {'; '.join(problems)}. Set RAY_TMPDIR to a short "
        "path that you may write"
    )


def store_folder(sessions: Path) -> str | None:
    """Return where Ray's object store lies if there is no shared memory; None lets Ray choose."""
    is_missing = sys.platform.startswith("linux") and not SHARED_MEMORY.is_dir()
    return str(sessions) if is_missing else None


def _problem(folder: Path) -> str:
    """Return why Ray cannot keep its sessions in a folder, if so."""
    num_bytes = len(os.fsencode(folder)) + len(LONGEST_SOCKET)
    if num_bytes > SOCKET_BYTES:
        return (
            f"too long by {num_bytes - SOCKET_BYTES} bytes: the paths of Ray's sockets below it "
            f"may have {SOCKET_BYTES}"
        )
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
    except OSError as error:
        return str(error.strerror)
    if not nearest.is_dir():
        return f"{nearest} is no folder"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest} cannot be written"
    return ""
