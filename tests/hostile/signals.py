"""Rows of the table of hostile inputs: signals."""

from tests.hostile.row import Row

ROWS: tuple[Row, ...] = ()
