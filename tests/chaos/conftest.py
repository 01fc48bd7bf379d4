"""Prints the table of faults after ``pytest -m slow tests/chaos``."""

from collections.abc import Callable
from dataclasses import asdict

import pytest

from tests.chaos.table import Record, Row, markdown


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Record:
    """Put a row into the table; it travels with the test's report, from whichever process."""
    return lambda row: record_property("fault", asdict(row))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("passed", [])
    told = [value for each in reports for key, value in each.user_properties if key == "fault"]
    if told:
        terminalreporter.write_line("")
        terminalreporter.write_line(markdown(Row(**values) for values in told))
