"""The view of a running experiment in a notebook: one output, written over."""

import io
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console

from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.signals.neighbours import neighbours
from tune_adaptive.watch.progress import Tally, view

WIDTH = 100
EVERY_S = 0.5


class NotebookProgress:
    """Shows an experiment while it runs; call it with each event."""

    def __init__(self, plan: Plan, past: Iterable[ledger.Event] = ()) -> None:
        self._tally = Tally(plan)
        for event in past:
            self._tally.add(event)
        self._shown: Any = None
        self._next_s = 0.0

    def __enter__(self) -> "NotebookProgress":
        from IPython.display import display

        self._shown = display(self._render(), display_id=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._shown.update(self._render())

    def __call__(self, event: ledger.Event) -> None:
        """Take in one event, and show it unless another was shown just now."""
        self._tally.add(event)
        if time.monotonic() >= self._next_s:
            self._shown.update(self._render())
            self._next_s = time.monotonic() + EVERY_S

    def _render(self) -> Any:
        from IPython.display import HTML

        console = Console(file=io.StringIO(), record=True, width=WIDTH, force_jupyter=False)
        console.print(view(self._tally, WIDTH, time.time(), neighbours().pressing()))
        return HTML(console.export_html(inline_styles=True, code_format="<pre>{code}</pre>"))
