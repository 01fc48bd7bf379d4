"""A view of what happens, which must not disturb it."""

import sys
from collections.abc import Callable

from tune_adaptive.records.ledger import Event


class Isolated:
    """Passes events on until that fails; then it says so, once, and hears no more.

    Args:
        name: Who it is, for the warning.
        view: Takes the events. A terminal that was closed makes rich raise SystemExit.
    """

    def __init__(self, name: str, view: Callable[[Event], None]) -> None:
        self._name = name
        self._view: Callable[[Event], None] | None = view

    def __call__(self, event: Event) -> None:
        """Pass one event on."""
        if self._view is None:
            return
        try:
            self._view(event)
        except (Exception, SystemExit) as error:
            self._view = None
            print(f"warning: {self._name} is left out from here on: {error!r}", file=sys.stderr)
