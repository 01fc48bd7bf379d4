"""A person's own schedules, on the way to workers that may not be able to import them."""

import sys
from collections.abc import Mapping

from ray import cloudpickle

from tune_adaptive.errors import NOT_A_PERSONS, InputError
from tune_adaptive.schedules import SCHEDULES, Schedule


def pack(builders: Mapping[str, Schedule]) -> bytes:
    """Return builders as bytes: with their code, where their module is not an installed one."""
    modules = [
        module
        for builder in builders.values()
        if (module := sys.modules.get(builder.__module__)) is not None
        and not str(getattr(module, "__file__", None)).startswith(NOT_A_PERSONS)
        and module.__name__ != "__main__"  # which is sent with its code anyway
    ]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(dict(builders)))
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def unpack(packed: bytes) -> Exception | None:
    """Take in what :func:`pack` returned; return why it cannot be, if so."""
    try:
        SCHEDULES.restore(cloudpickle.loads(packed))
    except Exception as error:  # of whatever it imports
        return error
    return None


def require(schedule: str, why: Exception | None) -> None:
    """Check that a schedule is known in this process.

    Raises:
        InputError: It is not, and why.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"schedule {schedule!r} cannot be loaded on this node: {why!r}")
