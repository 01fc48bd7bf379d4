"""What a schedule needs beyond what this package requires."""

from tune_adaptive.errors import EnvironmentFault
from tune_adaptive.system import packages

REQUIREMENTS = {
    "greedy": "transformers>=5.6",
    "prodigy": "prodigyopt>=1.1.2",
    "schedule_free": "schedulefree>=1.4.1",
}
"""By schedule, the package that it comes from; the rivals' are the extra ``[rivals]``."""


def is_installed(schedule: str) -> bool:
    """Whether what the schedule needs is here."""
    return schedule not in REQUIREMENTS or packages.meets(REQUIREMENTS[schedule])


def require_installed(schedule: str) -> None:
    """Raise EnvironmentFault, with the remedy, where what the schedule needs is not here."""
    if not is_installed(schedule):
        raise EnvironmentFault(
            f"schedule {schedule!r} needs the package {REQUIREMENTS[schedule]}: "
            f"pip install '{REQUIREMENTS[schedule]}'"
        )
