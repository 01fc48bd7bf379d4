"""Rows of the table of hostile inputs: folders."""

from tests.hostile.row import Row

ROWS: tuple[Row, ...] = ()
