"""Run files: what a person asked for, in TOML, by the options' names with underscores.

A run file is read with ``--config FILE``; what is given beside it goes before it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from tune_adaptive.errors import EnvironmentFault, InputError, did_you_mean
from tune_adaptive.planning.options import OPTIONS, is_given
from tune_adaptive.records.codec import parse_toml, read_bytes


def read_run_file(path: Path) -> dict[str, Any]:
    """Return the options of a run file.

    Raises:
        DecodeError: It is not there, or is no TOML.
        InputError: It names options that there are not.
    """
    options = parse_toml(read_bytes(path), str(path))
    if unknown := [name for name in options if name not in OPTIONS]:
        raise InputError(
            "\n".join(
                f"{path}: unknown option {name!r}{did_you_mean(name, OPTIONS)}" for name in unknown
            )
        )
    return options


def write_run_file(path: Path, options: Mapping[str, Any]) -> None:
    """Write options as a run file that asks for the same.

    Args:
        path: Of a file that is not there yet.
        options: What :func:`~tune_adaptive.planning.options.read_request` could read.

    Raises:
        InputError: It is there already.
        EnvironmentFault: It cannot be written.
    """
    given = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in options.items()
        if is_given(value)
    }
    try:
        with path.open("xb") as file:
            tomli_w.dump(given, file)
    except FileExistsError as error:
        raise InputError(f"--save-config {path}: is there already") from error
    except OSError as error:
        raise EnvironmentFault(f"--save-config {path}: {error.strerror}") from error
