"""Rows of the table of hostile inputs: data."""

from tests.hostile.row import Row

ROWS: tuple[Row, ...] = ()
