"""Rows of Parquet, CSV, TSV and JSON lines, with no value changed on the way.

``datasets`` has builders for these, and they guess. Of CSV (through pandas) a row with a
field too many shifts every column by one, of two columns of one name the second vanishes, and
missing fields become empty. Of JSON lines a text column of dates comes back as timestamps,
and numbers and objects become texts. Its image folders drop hidden files and other formats
silently, and take another meaning with a file metadata.csv. So rows are read by the readers
below that infer nothing, and ``datasets`` reads what only it knows: the names of the classes
that it wrote into a Parquet file.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tune_adaptive.errors import InputError

LABEL = "label"
DELIMITERS = {".csv": ",", ".tsv": "\t"}
BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
MAX_FIELD = 2**31 - 1  # a text; the csv module's own limit is 131,072


@dataclass(frozen=True, slots=True)
class Table:
    """What one file holds.

    Attributes:
        path: The file, or the folder of a folder per class.
        cells: Texts or images, as they were stored: anything at all; of a folder, its files.
        labels: Of each: anything at all.
        class_names: That whole-numbered labels stand for, where the file says so.
        lines: Of the file, on which each row ends; None where rows are counted from 0.
        is_named: Whether labels are names though they may look like numbers.
    """

    path: Path
    cells: Sequence[Any]
    labels: Sequence[Any]
    class_names: tuple[str, ...] = ()
    lines: Sequence[int] | None = None
    is_named: bool = False

    def at(self, row: int) -> str:
        """Say where a row is."""
        if isinstance(self.cells[row], Path):
            return str(self.cells[row])
        place = f"row {row}" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.path}: {place}"


def read_table(path: Path, names: Sequence[str], label: str = LABEL) -> Table:
    """Read the first of the columns ``names`` that is there, and the labels.

    Args:
        path: ``.parquet``, ``.csv``, ``.tsv`` or ``.jsonl``; texts in UTF-8, or in UTF-16 with
            its mark.
        names: Of the column, in the order of preference.
        label: Of the column of labels.

    Raises:
        InputError: Which file and line, what is wrong there, and what is allowed.
    """
    try:
        if path.suffix.lower() == ".parquet":
            return _read_parquet(path, names, label)
        if path.suffix.lower() in DELIMITERS:
            return _read_csv(path, names, label)
        return _read_json_lines(path, names, label)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {_not_unicode(path)}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read, truncated perhaps: {error}") from error


def header_of(path: Path) -> list[str]:
    """Return the names of a file's columns, as its first line or its schema has them.

    Raises:
        InputError: It cannot be read.
    """
    try:
        if path.suffix.lower() == ".parquet":
            with path.open("rb") as opened:
                return list(pq.ParquetFile(opened).schema_arrow.names)
        with _open_text(path, newline="") as file:
            if path.suffix.lower() in DELIMITERS:
                return next(csv.reader(file, delimiter=DELIMITERS[path.suffix.lower()]), [])
            first = json.loads(next((line for line in file if line.strip()), "{}"))
            return list(first) if isinstance(first, dict) else []
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {_not_unicode(path)}") from error
    except (OSError, ValueError, RecursionError, csv.Error, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _read_parquet(path: Path, names: Sequence[str], label: str) -> Table:
    try:
        with path.open("rb") as opened:  # by a file: of a path, folders like a=b add columns
            file = pq.ParquetFile(opened)
            schema = file.schema_arrow
            name = _column(path, schema.names, names, label)
            table = file.read(columns=[name, label])
        table.validate(full=True)  # texts are UTF-8
        cells, labels = table.column(name).to_pylist(), table.column(label).to_pylist()
    except pa.lib.ArrowMemoryError as error:
        raise MemoryError(str(error)) from error
    except pa.ArrowException as error:
        raise InputError(f"{path}: cannot be read, truncated perhaps: {error}") from error
    return Table(path, cells, labels, _class_names(path, schema, label))


def _class_names(path: Path, schema: Any, label: str) -> tuple[str, ...]:
    """Return the names that ``datasets`` recorded of the classes, if it wrote the file."""
    if b"huggingface" not in (schema.metadata or {}):
        return ()
    import datasets  # slow to import, and needed for such files only

    try:
        feature = datasets.Features.from_arrow_schema(schema)[label]
    except Exception as error:  # what another version wrote, or a stranger
        raise InputError(f"{path}: its huggingface metadata cannot be read: {error!r}") from error
    return tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else ()


def _read_csv(path: Path, names: Sequence[str], label: str) -> Table:
    delimiter = DELIMITERS[path.suffix.lower()]
    cells, labels, lines = [], [], []
    csv.field_size_limit(MAX_FIELD)
    with _open_text(path, newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(rows, [])
            place, of_label = map(header.index, (_column(path, header, names, label), label))
            for row in rows:
                if not row:
                    continue  # an empty line
                if len(row) != len(header):
                    raise InputError(
                        f"{path}: line {rows.line_num}: {len(row)} fields, the header has "
                        f"{len(header)}"
                    )
                if path.suffix.lower() == ".tsv" and any("\n" in field for field in row):
                    raise InputError(
                        f"{path}: line {rows.line_num}: a quoted field goes over several lines, "
                        "which TSV does not know; a quotation mark is perhaps left open"
                    )
                cells.append(row[place])
                labels.append(row[of_label])
                lines.append(rows.line_num)
        except csv.Error as error:
            raise InputError(f"{path}: line {rows.line_num}: {error}") from error
    return Table(path, cells, labels, lines=lines)


def _read_json_lines(path: Path, names: Sequence[str], label: str) -> Table:
    cells, labels, lines = [], [], []
    with _open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            at = f"{path}: line {number}"
            try:
                row = json.loads(line, object_pairs_hook=_each_once)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{at}: not JSON that can be read: {error}") from error
            if not isinstance(row, dict):
                raise InputError(f"{at}: must be an object, {{...}}, is {type(row).__name__}")
            cells.append(row[_column(at, list(row), names, label)])
            labels.append(row[label])
            lines.append(number)
    return Table(path, cells, labels, lines=lines)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [name for name, num in Counter(name for name, _ in pairs).items() if num > 1]
    if twice:
        raise ValueError(f"{', '.join(map(repr, twice))} is given twice")
    return dict(pairs)


def _column(where: object, header: Sequence[str], names: Sequence[str], label: str) -> str:
    """Return the first of ``names`` that the header has, once, beside the label."""
    name = next((name for name in names if name in header), None)
    if name is None or label not in header:
        shown = [column if len(column) <= 40 else f"{column[:37]}..." for column in header[:20]]
        hint = next((sign for sign in ";\t|" if len(header) == 1 and sign in header[0]), "")
        raise InputError(
            f"{where}: needs the columns {' (or '.join(names)}{')' * (len(names) - 1)} and "
            f"{label}, has {shown}" + (f"; is it separated by {hint!r}?" if hint else "")
        )
    if twice := [each for each in (name, label) if header.count(each) > 1]:
        raise InputError(f"{where}: has {' and '.join(twice)} more than once among its columns")
    return name


def _open_text(path: Path, newline: str | None = None) -> io.TextIOWrapper:
    with path.open("rb") as file:
        encoding = BOMS.get(file.read(2), "utf-8-sig")
    return path.open(encoding=encoding, newline=newline)


def _not_unicode(path: Path) -> str:
    """Say where a file stops being UTF-8."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            return (
                f"line {number}: not UTF-8 (byte 0x{line[error.start]:02x}); which encoding it is "
                "cannot be known: save it as UTF-8, as by iconv -f CP1252 -t UTF-8"
            )
    return "not UTF-16, though it begins with its mark"
