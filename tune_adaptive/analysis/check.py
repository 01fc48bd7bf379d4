"""One rule of the protocol and what was found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One rule and what was found.

    Attributes:
        rule: What must hold.
        ok: Whether it does; None where it cannot be said.
        finding: In words.
        timing_only: Whether a failure voids times and not metrics.
        advice: Whether a failure is something to know of the search rather than a breach.
    """

    rule: str
    ok: bool | None
    finding: str
    timing_only: bool = False
    advice: bool = False


def make_check(
    rule: str,
    breaches: list[str],
    told: str,
    *,
    timing_only: bool = False,
    advice: bool = False,
    ok_if: float = 1,
) -> Check:
    """Make the check: ok without breaches, None where there was nothing to look at."""
    ok = (not breaches) if ok_if or breaches else None
    return Check(rule, ok, "; ".join(breaches) or told, timing_only, advice)
