"""Rows of the table of hostile inputs: environments."""

from tests.hostile.row import Row

ROWS: tuple[Row, ...] = ()
