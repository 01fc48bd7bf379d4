"""A home and a name for a user that the system does not know, as in many containers.

``docker run --user 12345`` gives a process a number without an entry in ``passwd``, and often no
``HOME`` and ``USER``. Ray, the hub and others then raise where they are imported, or make a folder
named ``~``.
"""

import getpass
import os
import tempfile
from pathlib import Path


def is_own(folder: Path) -> bool:
    """Make a folder that nobody else may write to; return whether it is one."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (
        status.st_uid == os.getuid() and not status.st_mode & 0o022
    )


def own_folder() -> Path:
    """Return this user's folder among the temporary ones; it may not be there, or not be ours.

    It is named by the number of the user, which every process has.

    Raises:
        FileNotFoundError: There is no place for temporary files.
    """
    who = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return Path(tempfile.gettempdir()) / f"tune-adaptive-{who}"


def settle() -> None:
    """Set ``HOME`` and ``USER`` where the system has none for this user.

    Processes that are started later inherit them. Nothing is set where there is something.
    """
    if os.path.expanduser("~") == "~":
        try:
            home = own_folder()
            os.environ["HOME"] = str(home if is_own(home) else tempfile.mkdtemp())
        except OSError:
            os.environ["HOME"] = os.path.abspath(os.sep)  # nothing can be written anyway
    try:
        getpass.getuser()
    except (KeyError, ImportError, OSError):
        os.environ["USER"] = f"uid{os.getuid()}" if hasattr(os, "getuid") else "user"
