"""Prints the table of faults after ``pytest -m slow tests/chaos``."""

import pytest

from tests.chaos.table import ROWS, markdown


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ROWS:
        terminalreporter.write_line("")
        terminalreporter.write_line(markdown())
