"""Rows of the table of hostile inputs: data.

Files of data sets in every format, image folders, and arrays of a person's own. All are refused
before anything trains, or planned with what was found said.
"""

import csv
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tests.hostile.row import Row
from tests.tasks.published import png, publish, write_parquet

Given = Callable[[Path], None]

QUICK = "--plan --precision fp32 --signals steady --epochs 1 --name x"
SEARCH = f"search {QUICK} --data-dir {{here}}/data"
TEXTS = f"{SEARCH} --task imdb/lstm"
IMAGES = f"{SEARCH} --task mnist/mlp"
OWN = f"search {QUICK} --task"


# ---------------------------------------------------------------------------------- texts


def imdb(folder: Path) -> Path:
    """Write a data set of texts that can be searched."""
    return publish(folder / "data", "imdb", num_train=40, num_test=8)


def test_file(form: str, content: bytes | str) -> Given:
    """Replace its test split by a file of this content."""

    def given(folder: Path) -> None:
        data = imdb(folder)
        (data / "test-00000-of-00001.parquet").unlink()
        encoded = content.encode() if isinstance(content, str) else content
        (data / f"test.{form}").write_bytes(encoded)

    return given


def of_rows(form: str, texts: list[object], labels: list[object]) -> Given:
    """Replace its test split by these rows."""

    def given(folder: Path) -> None:
        data = imdb(folder)
        (data / "test-00000-of-00001.parquet").unlink()
        path = data / f"test.{form}"
        rows = list(zip(texts, labels, strict=True))
        if form == "parquet":
            write_parquet(path, {"text": texts, "label": labels})
        elif form == "jsonl":
            lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
            path.write_text("\n".join(lines))
        else:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, delimiter=",\t"[form == "tsv"])
                writer.writerows([("text", "label"), *rows])

    return given


FORMS = ("parquet", "csv", "tsv", "jsonl")
A_TEST_FILE = r"\S*/imdb/test\.(parquet|csv|tsv|jsonl): "


def text_rows() -> list[Row]:
    """Rows of what is wrong in every format alike, and in one alone."""
    alike: Mapping[str, tuple[list[object], list[object], str]] = {
        "an empty text": ([" ", "b"], [0, 1], r"(row 0|line \d): the text is empty"),
        "a label beyond the classes": (["a", "b"], [0, 7], r"(row 1|line \d): label '?7'?; must"),
        "a label that is missing": (["a", "b"], [0, None], r"(row 1|line \d): the label is miss"),
        "a label that is a fraction": (["a", "b"], [0.5, 0.5], r"(row 0|line \d): label '?0\.5'?"),
        "a class that train has not": (["a", "b"], ["good", "bad"], r"(row 0|line \d): label 'goo"),
    }
    planned = {
        "dates as texts": ["2020-01-01", "2021-12-31"],
        "numbers as texts": ["007", "1e5"],
        "truth values as texts": ["true", "False"],
        "NA as texts": ["NA", "NaN"],
    }
    raw: Mapping[str, tuple[str, bytes | str, str]] = {
        "csv in latin-1": ("csv", b"text,label\ncaf\xe9,1\n", r"line 2: not UTF-8 \(byte 0xe9"),
        "tsv in latin-1": ("tsv", b"text\tlabel\ncaf\xe9\t1\n", "line 2: not UTF-8"),
        "jsonl in latin-1": ("jsonl", b'{"text": "caf\xe9", "label": 1}\n', "line 1: not UTF-8"),
        "csv with a column twice": ("csv", "text,text,label\na,b,1\n", "has text more than once"),
        "jsonl with a key twice": (
            "jsonl",
            '{"text":"a","text":"b","label":1}',
            "line 1: not JSON",
        ),
        "csv with a field too many": ("csv", "text,label\na,1,0\n", "line 2: 3 fields"),
        "csv with a field too few": ("csv", "text,label\na\n", "line 2: 1 fields"),
        "csv with an open quote": ("csv", 'text,label\n"a,1\n', "line 2: unexpected end"),
        "csv of semicolons": ("csv", "text;label\na;1\n", "needs the columns text and label"),
        "csv of nothing": ("csv", "", "needs the columns text and label"),
        "parquet of nothing": ("parquet", "", "cannot be read, truncated perhaps"),
        "parquet that is none": ("parquet", "text,label\n", "cannot be read, truncated perhaps"),
        "jsonl nested 100,000 deep": ("jsonl", "[" * 100_000, "line 1: not JSON that can be read"),
        "jsonl with half a surrogate": (
            "jsonl",
            '{"text":"\\ud800","label":1}',
            "line 1: the text",
        ),
        "jsonl with a huge label": (
            "jsonl",
            '{"text":"a","label":1' + "0" * 400 + "}",
            "line 1: lab",
        ),
        "jsonl with a list as text": ("jsonl", '{"text":["a"],"label":1}', "line 1: must be text"),
        "jsonl that is one array": ("jsonl", '[{"text":"a","label":1}]', "line 1: must be an obj"),
    }
    return [
        *(
            Row(f"{form}: {name}", TEXTS, 2, A_TEST_FILE + message, of_rows(form, texts, labels))
            for form in FORMS
            for name, (texts, labels, message) in alike.items()
            if (form, name) != ("parquet", "a label that is a fraction")
        ),
        *(
            Row(f"{form}: {name}", TEXTS, 0, "estimated", of_rows(form, [*texts], [0, 1]))
            for form, (name, texts) in zip(FORMS, planned.items(), strict=True)
        ),
        *(
            Row(name, TEXTS, 2, A_TEST_FILE + message, test_file(form, content))
            for name, (form, content, message) in raw.items()
        ),
    ]


# --------------------------------------------------------------------------------- images


def mnist(folder: Path, classes: str = "0123456789") -> Path:
    """Write a data set of a folder of images per class that can be searched."""
    data = folder / "data" / "mnist"
    for split, num in (("train", 2), ("test", 1)):
        for name in classes:
            (data / split / name).mkdir(parents=True)
            for index in range(num):
                picture = np.full((28, 28), 20 * classes.index(name) + index, np.uint8)
                (data / split / name / f"{index}.png").write_bytes(png(picture))
    return data


def an_image(spoil: Callable[[Path], object]) -> Given:
    """Do something to one image of the test split."""
    return lambda folder: void(spoil(mnist(folder) / "test" / "3" / "0.png"))


def void(_: object) -> None:
    """Return nothing."""


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.unlink()
        make(path)

    return spoil


def changed_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[50] ^= 4
    path.write_bytes(content)


def colours(path: Path) -> None:
    picture = np.zeros((28, 28, 3), np.uint8)
    picture[0] = (1, 2, 3)
    path.write_bytes(png(picture))


def beside(*paths: str, make: Callable[[Path], object] = Path.touch) -> Given:
    """Put something beside the images."""

    def given(folder: Path) -> None:
        data = mnist(folder)
        for path in paths:
            make(Path(os.fsdecode(os.fsencode(data) + b"/" + path.encode("latin-1"))))

    return given


def renamed(split: str, before: str, after: str) -> Given:
    def given(folder: Path) -> None:
        inside = mnist(folder) / split
        (inside / before).rename(inside / after)

    return given


def removed(*paths: str) -> Given:
    def given(folder: Path) -> None:
        data = mnist(folder)
        for path in paths:
            for file in sorted(data.glob(f"{path}/*")):
                file.unlink()
            (data / path).rmdir()

    return given


def image_rows() -> list[Row]:
    """Rows of image folders."""
    one = r"\S*/test/3/0\.png: "
    refused: Mapping[str, tuple[Callable[[Path], object], str]] = {
        "a changed byte": (changed_byte, "not an image that can be read"),
        "a truncated file": (lambda path: os.truncate(path, 45), "not an image that can be read"),
        "an empty file": (lambda path: os.truncate(path, 0), "no image bytes there"),
        "text": (lambda path: path.write_text("hello"), "not an image that can be read"),
        "a broken link": (replaced(lambda path: path.symlink_to("no")), "a broken link"),
        "a link to itself": (replaced(lambda path: path.symlink_to(path)), "a broken link"),
        "a fifo": (replaced(os.mkfifo), "not a regular file"),
        "colours": (colours, "colours; must be grey"),
        "16 bits": (
            lambda path: path.write_bytes(png(np.zeros((28, 28), np.uint16))),
            "more than 8 bits",
        ),
        "another size": (
            lambda path: path.write_bytes(png(np.zeros((8, 8), np.uint8))),
            "an image of 8 x 8; must be 28 x 28 x 1",
        ),
    }
    said: Mapping[str, tuple[Given, str]] = {
        "hidden files": (beside("train/3/._0.png", "test/.DS_Store"), "not used, hidden files: 2"),
        "a hidden folder": (beside("train/.git", make=Path.mkdir), "not used, hidden files: 1"),
        "loose images": (beside("train/a.png"), "not used, files outside the classes: 1"),
        "other files": (beside("test/3/notes.txt"), "not used, files that are no images: 1"),
        "a folder named like an image": (
            beside("train/3/9.png", make=Path.mkdir),
            "not used, folders within classes: 1",
        ),
        "an empty class": (
            beside("test/x", make=Path.mkdir),
            "not used, folders without images: 1",
        ),
        "a name that is not UTF-8": (beside("caf\xe9"), r"not used, files: 1 \(caf\\xe9\)"),
        "a class missing in test": (removed("test/3"), r"test: no example of 1 .*: 3 \(3\)"),
    }
    return [
        *(
            Row(f"an image that is {name}", IMAGES, 2, one + message, an_image(spoil))
            for name, (spoil, message) in refused.items()
        ),
        *(
            Row(f"images with {name}", IMAGES, 0, message, given)
            for name, (given, message) in said.items()
        ),
        Row(
            "a class of another name in test",
            IMAGES,
            2,
            r"\S*/test/three/0\.png: class 'three' is not in train",
            renamed("test", "3", "three"),
        ),
        Row(
            "a class too few in train",
            IMAGES,
            2,
            r"\S*/train: 9 classes: .*; mnist has 10",
            removed("train/3"),
        ),
        Row(
            "a data folder of another name",
            IMAGES,
            2,
            r"--data-dir \S*: has no folder mnist; there is imdb",
            lambda folder: void(imdb(folder)),
        ),
    ]


# ------------------------------------------------------------------------- arrays of a person's

MODULE = """
from dataclasses import replace
import numpy as np
from torch import nn
from tune_adaptive import Dataset, Examples, Task

F, Y = np.array([[1., 2.], [3., 4.]], np.float32).repeat(8, 0), np.array([0, 1]).repeat(8)
I, L = np.array([[1, 2], [3, 0]], np.int32).repeat(8, 0), np.array([2, 1], np.int32).repeat(8)
good, texts = Examples(F, Y), Examples(I, Y, L)


class Bag(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.bag, self.out = nn.EmbeddingBag(data.vocab_size, 4), nn.Linear(4, 2)

    def forward(self, ids, lengths):
        return self.out(self.bag(ids))


def task(bad, test=None, vocab_size=0, train=None):
    train = train or (texts if vocab_size else good)
    data = Dataset(train, train, test or bad, vocab_size)
    return Task("own/task", data, Bag if vocab_size else (lambda data: nn.Linear(2, 2)))
"""


def own_row(name: str, code: int, message: str, expression: str) -> Row:
    """Return a row whose task is made by an expression, in a module of its own name."""
    module = f"own_{re.sub(r'[^a-z]', '_', name)}"

    def given(folder: Path) -> None:
        (folder / f"{module}.py").write_text(f"{MODULE}\nit = {expression}\n")

    return Row(f"arrays: {name}", f"{OWN} {module}:it", code, message, given)


def own_rows() -> list[Row]:
    """Rows of data that a task of a person's own brings."""
    test = "own/task: test: "
    return (
        [
            own_row(name, 2, re.escape(test) + message, expression)
            for name, message, expression in (
                (
                    "a token beyond the vocabulary",
                    r"token ids .* row 0 has 1",
                    "task(texts, vocab_size=4, test=Examples(I + 9, Y, L))",
                ),
                (
                    "a negative token",
                    "token ids .* row 0 has -",
                    "task(texts, vocab_size=4, test=Examples(-I, Y, L))",
                ),
                (
                    "a length of 0",
                    "lengths .* row 8 has 0",
                    "task(texts, vocab_size=4, test=Examples(I, Y, L - 1))",
                ),
                (
                    "a length beyond the width",
                    "lengths .* row 0 has 3",
                    "task(texts, vocab_size=4, test=Examples(I, Y, L + 1))",
                ),
                ("lengths but no vocabulary", "are texts, but", "task(texts)"),
                (
                    "features as a list",
                    "x must be a NumPy array, is list",
                    "task(Examples(F.tolist(), Y))",
                ),
                (
                    "labels as a list",
                    "y must be a NumPy array, is list",
                    "task(Examples(F, Y.tolist()))",
                ),
                ("labels as fractions", "y is float32 of shape", "task(Examples(F, Y / 2))"),
                (
                    "labels of two columns",
                    "y must have the shape",
                    "task(Examples(F, np.stack([Y, Y], 1)))",
                ),
                ("a label that train has not", "a label 2", "task(Examples(F, Y + 1))"),
                ("features of another width", "features of shape", "task(Examples(F[:, :1], Y))"),
                (
                    "features that are not finite",
                    "features must be finite",
                    "task(Examples(F * np.inf, Y))",
                ),
                (
                    "features that are texts",
                    "x must be an array of numbers",
                    "task(Examples(F.astype(str), Y))",
                ),
                (
                    "fewer labels than rows",
                    "its arrays have different lengths: 16, 15",
                    "task(Examples(F, Y[1:]))",
                ),
                ("no rows", "is empty", "task(Examples(F[:0], Y[:0]))"),
                ("a tuple for examples", "must be Examples, is tuple", "task((F, Y))"),
            )
        ]
        + [
            own_row(
                f"labels as {dtype}",
                0,
                "estimated",
                f"task(good, train=Examples(F, Y.astype('{dtype}')))",
            )
            for dtype in ("int32", "uint8", "bool", ">i8")
        ]
        + [
            own_row(
                "test that is train",
                0,
                "test: 16 of 16 examples .* are training examples",
                "task(good)",
            ),
            own_row(
                "an unequal class",
                0,
                "guessing it has a test accuracy",
                "task(good, train=Examples(F, Y * (np.arange(16) > 14)))",
            ),
            own_row(
                "a batch larger than the data",
                0,
                "batch_size 1000000: all 16 examples are one batch",
                "replace(task(good), batch_size=10**6)",
            ),
        ]
    )


ROWS: tuple[Row, ...] = (*text_rows(), *image_rows(), *own_rows())
