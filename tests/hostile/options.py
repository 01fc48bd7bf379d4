"""Rows of the table of hostile inputs: options."""

from tests.hostile.row import Row

ROWS: tuple[Row, ...] = (
    Row("an unknown schedule", "search --schedule stepp --plan", 2, "unknown schedule 'stepp'"),
)
