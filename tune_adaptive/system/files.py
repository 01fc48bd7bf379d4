"""Writing into an experiment's folder, whoever it comes from.

A folder that somebody sent may hold symbolic links, and what is written through one lands
wherever it points. So a file is replaced, never written through; a folder that is a link is
not written into; and an experiment that holds any link is not resumed.
"""

import os
from pathlib import Path

from tune_adaptive.errors import EnvironmentFault, InputError


def expanded(path: str, option: str) -> Path:
    """Return a path with its ``~`` or ``~user`` replaced.

    Raises:
        InputError: There is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        user = path.split("/", 1)[0]
        raise InputError(f"{option} {path}: there is no user {user[1:]!r} here") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or as it was; a link in its place is replaced.

    Raises:
        EnvironmentFault: It cannot be written.
    """
    draft = path.with_name(f"{path.name}.draft")
    try:
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:
            file.write(content.encode(errors="replace") if isinstance(content, str) else content)
        draft.replace(path)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror}") from error


def make_inside(folder: Path, name: str) -> Path:
    """Return the folder ``name`` in ``folder``, made where it is not there.

    Raises:
        InputError: It is a link, or a file.
    """
    path = folder / name
    if path.is_symlink():
        raise InputError(f"{path}: is a link, which could lead anywhere; remove it first")
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"{path}: is no folder; remove it first") from error
    return path


def refuse_links(folder: Path) -> None:
    """Check that nothing in ``folder``, at any depth, is a link.

    Raises:
        InputError: Something is.
    """
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (path := Path(where, name)).is_symlink():
                raise InputError(f"{path}: is a link, which could lead anywhere; remove it first")
