"""Files that are not what they seem: classes, images, rows, and what lies beside them."""

import csv
import io
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.tasks.published import WORDS, png, publish, write_parquet
from tune_adaptive.errors import InputError
from tune_adaptive.tasks import TaskOptions, make_task
from tune_adaptive.tasks.data import Dataset


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def load(name: str, data_dir: Path) -> Dataset:
    model = "lstm" if name in ("imdb", "ag_news") else "mlp"
    return make_task(f"{name}/{model}", TaskOptions(data_dir=data_dir)).load()


def grey(value: int) -> npt.NDArray[np.uint8]:
    return np.full((28, 28), value, np.uint8)


def image_folder(data_dir: Path, classes: str = "abcdefghij", num_test: int = 2) -> Path:
    """Write ``mnist`` as folders; the pixels of class ``c`` are 10 * its place + its number."""
    folder = data_dir / "mnist"
    for split, num in (("train", 4), ("test", num_test)):
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for index in range(num):
                path = folder / split / name / f"{index}.png"
                path.write_bytes(png(grey(10 * label + index)))
    return folder


# ------------------------------------------------------------------------------- classes


def test_a_class_that_is_missing_in_test_does_not_shift_the_labels(tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    shutil.rmtree(folder / "test" / "a")
    data = load("mnist", tmp_path)
    assert (data.test.x[:, 0, 0, 0] // 10 == data.test.y).all()
    assert data.classes == tuple("abcdefghij")


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX", "empty"])
def test_what_is_no_class_does_not_shift_the_labels(hidden: str, tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    for split in ("train", "test"):
        (folder / split / hidden).mkdir()
    data = load("mnist", tmp_path)
    for split in (data.train, data.test):
        assert (split.x[:, 0, 0, 0] // 10 == split.y).all()
    assert any(hidden in remark for remark in data.remarks)


def test_a_class_that_train_has_not_is_refused_by_name(tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    (folder / "test" / "a").rename(folder / "test" / "A")
    with pytest.raises(InputError, match=r"A/0\.png: class 'A' is not in train"):
        load("mnist", tmp_path)


def write_texts(data_dir: Path, form: str, labels: dict[str, list[Any]]) -> Path:
    folder = data_dir / "imdb"
    folder.mkdir(parents=True, exist_ok=True)
    for split, own in labels.items():
        texts = [f"{WORDS[row % 9]} the film {WORDS[row % 7]}" for row in range(len(own))]
        rows = [{"text": text, "label": label} for text, label in zip(texts, own, strict=True)]
        path = folder / f"{split}.{form}"
        if form == "parquet":
            write_parquet(path, {"text": texts, "label": own})
        elif form == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["text", "label"], delimiter=",\t"[form == "tsv"])
                writer.writeheader()
                writer.writerows(rows)
    return folder


FORMS = ("parquet", "csv", "tsv", "jsonl")


@pytest.mark.parametrize("form", FORMS)
def test_names_as_labels_are_numbered_by_train(form: str, tmp_path: Path) -> None:
    write_texts(tmp_path, form, {"train": ["pos", "neg"] * 10, "test": ["pos"] * 4})
    data = load("imdb", tmp_path)
    assert data.test.y.tolist() == [1] * 4
    assert data.classes == ("neg", "pos")
    write_texts(tmp_path, form, {"test": ["pos", "Neg", "mixed"]})
    with pytest.raises(InputError, match=r"class 'Neg' is not in train.*'neg'") as told:
        load("imdb", tmp_path)
    assert "'mixed'" in str(told.value), "all at once"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("label", [0.5, None, "1.0", "nan", -1, 10**6])
def test_labels_that_are_no_class(form: str, label: Any, tmp_path: Path) -> None:
    if form == "parquet" and isinstance(label, str):
        labels: list[Any] = ["0", "1", label]
    else:
        labels = [0, 1, label]
    write_texts(tmp_path, form, {"train": [0, 1] * 5, "test": labels})
    with pytest.raises(InputError, match=r"(label .* must be an integer|the label is missing)"):
        load("imdb", tmp_path)


def write_named(path: Path, names: list[str], labels: list[int]) -> None:
    """Write a Parquet file with the names of its classes, as ``datasets`` does."""
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": names, "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    texts = [f"the {names[label]} film" for label in labels]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({"text": texts, "label": labels}).replace_schema_metadata(metadata), path
    )


def test_numbers_mean_what_each_file_says_they_mean(tmp_path: Path) -> None:
    write_named(tmp_path / "imdb" / "train.parquet", ["neg", "pos"], [0, 1] * 10)
    write_named(tmp_path / "imdb" / "test.parquet", ["pos", "neg"], [0, 1, 1])
    data = load("imdb", tmp_path)
    assert data.test.y.tolist() == [1, 0, 0]
    write_named(tmp_path / "imdb" / "test.parquet", ["pos", "mixed"], [0, 1, 1])
    with pytest.raises(InputError, match="row 1: class 'mixed' is not in train"):
        load("imdb", tmp_path)


# -------------------------------------------------------------------------------- images


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=form, **options)
    return file.getvalue()


def deep_png(kind: int, channels: int) -> bytes:
    """A PNG of 16 bits a channel, which PIL does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 28, 28, 16, kind, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(28 * 2 * channels)) * 28)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


PICTURE = np.arange(28 * 28, dtype=np.uint32).reshape(28, 28).astype(np.uint8)  # asymmetric
BLACK_AND_WHITE = ((PICTURE > 128) * 255).astype(np.uint8)


def palette() -> Image.Image:
    """A grey picture whose palette is upside down, so that indices are not pixels."""
    image = Image.fromarray(255 - PICTURE).convert("P")
    image.putdata((255 - PICTURE).flatten().tolist())
    image.putpalette([channel for index in range(256) for channel in [255 - index] * 3])
    return image


def turned() -> bytes:
    """A picture lying on its side, and EXIF that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(np.rot90(PICTURE)), exif=exif)


@pytest.mark.parametrize(
    ("content", "pixels"),
    [
        (encoded(Image.fromarray(PICTURE)), PICTURE),
        (encoded(palette()), PICTURE),
        (encoded(palette(), "GIF"), PICTURE),
        (encoded(Image.fromarray(BLACK_AND_WHITE).convert("1")), BLACK_AND_WHITE),
        (encoded(Image.fromarray(PICTURE).convert("LA")), PICTURE),
        (encoded(Image.fromarray(PICTURE).convert("RGB")), PICTURE),
        (encoded(Image.fromarray(PICTURE).convert("RGB"), "WEBP", lossless=True), PICTURE),
        (encoded(Image.fromarray(PICTURE), "TIFF"), PICTURE),
        (encoded(Image.fromarray(PICTURE), "BMP"), PICTURE),
        (turned(), PICTURE),
    ],
    ids=["grey", "palette", "gif", "1-bit", "grey-alpha", "rgb", "webp", "tiff", "bmp", "exif"],
)
def test_an_image_is_what_is_seen_not_how_it_is_stored(
    content: bytes, pixels: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    folder = image_folder(tmp_path, num_test=1)
    (folder / "test" / "c" / "0.png").write_bytes(content)
    assert (load("mnist", tmp_path).test.x[2, :, :, 0] == pixels).all()


def test_what_was_converted_is_said_also_from_the_cache(tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    for path in (folder / "train").glob("b/*"):
        path.write_bytes(encoded(palette()))
    for _ in range(2):
        assert "train: images converted, palette as grey: 4" in load("mnist", tmp_path).remarks


def test_grey_images_are_read_where_colours_are_declared(tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    folder.rename(tmp_path / "cifar10")
    for path in (tmp_path / "cifar10").glob("*/*/*"):
        path.write_bytes(png(np.full((32, 32), 7, np.uint8)))
    assert (load("cifar10", tmp_path).train.x == 7).all()


def spoiled(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 4
    return bytes(changed)


COLOURS = Image.fromarray(np.stack([PICTURE, 255 - PICTURE, PICTURE], 2))
CLEAR = Image.fromarray(np.stack([PICTURE] * 4, 2))
GREY = encoded(Image.fromarray(PICTURE))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encoded(COLOURS), "colours; must be grey"),
        (encoded(CLEAR), "transparent pixels"),
        (encoded(Image.fromarray(PICTURE), transparency=3), "transparent pixels"),
        (encoded(COLOURS.convert("CMYK"), "JPEG"), "CMYK"),
        (encoded(COLOURS.convert("LAB"), "TIFF"), "of mode LAB"),
        (encoded(Image.fromarray(PICTURE.astype(np.uint16))), "more than 8 bits"),
        (encoded(Image.fromarray(PICTURE.astype(np.float32)), "TIFF"), "more than 8 bits"),
        (deep_png(2, 3), "more than 8 bits"),
        (deep_png(4, 2), "more than 8 bits"),
        (
            encoded(
                Image.fromarray(PICTURE),
                "GIF",
                save_all=True,
                append_images=[Image.new("L", (28, 28))],
            ),
            "2 frames; must be one",
        ),
        (encoded(Image.new("L", (28, 29))), "an image of 29 x 28; must be 28 x 28 x 1"),
        (
            encoded(Image.new("L", (30_000, 30_000))),
            "(an image of 30000|not an image that can be read: Image size)",
        ),
        (GREY[:-40], "not an image that can be read"),
        (GREY[:20], "not an image that can be read"),
        (b"", "no image bytes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n", "not an image that can be read"),
        *(
            (spoiled(GREY, place), "(not an image|an image of|more than|frames)")
            for place in (0, 8, 12, 18, 24, 25, 45, 50)
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_images_that_cannot_be_what_is_declared(
    content: bytes, message: str, tmp_path: Path
) -> None:
    folder = publish(tmp_path, "mnist", num_train=20, num_test=0)
    cells = [{"bytes": content, "path": None}]
    write_parquet(folder / "test-00000-of-00001.parquet", {"image": cells, "label": [0]})
    with pytest.raises(InputError, match=rf"row 0: {message}"):
        load("mnist", tmp_path)


def test_the_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, num_test=1)
    for name in "cd":
        (folder / "test" / name / "0.png").write_bytes(spoiled(GREY, 50))
    with pytest.raises(InputError) as told:
        load("mnist", tmp_path)
    lines = str(told.value).splitlines()
    assert [line.partition(": ")[0][-7:] for line in lines] == ["c/0.png", "d/0.png"]
    assert all("not an image that can be read" in line for line in lines)


# --------------------------------------------------------------------- what is not used


def test_what_is_not_used_is_counted_and_said(tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    train = folder / "train"
    (train / "a" / "._0.png").write_bytes(b"of another system")
    (train / ".DS_Store").touch()
    (train / "a" / "notes.txt").touch()
    (train / "b" / "more").mkdir()
    (train / "loose.png").write_bytes(png(grey(0)))
    (folder / "dev.csv").touch()
    (train / "b" / "3.png").rename(train / "b" / "3.PNG")
    data = load("mnist", tmp_path)
    assert len(data.train) + len(data.validation) == 40, "upper case is used"
    assert set(data.remarks) == {
        "not used, files: 1 (dev.csv)",
        "not used, hidden files: 2 (train/.DS_Store, train/a/._0.png)",
        "not used, files outside the classes: 1 (train/loose.png)",
        "not used, folders within classes: 1 (train/b/more)",
        "not used, files that are no images: 1 (train/a/notes.txt)",
    }


def test_of_two_formats_the_one_that_is_not_read_is_said(tmp_path: Path) -> None:
    folder = write_texts(tmp_path, "parquet", {"train": [0, 1] * 10, "test": [0, 1]})
    write_texts(tmp_path, "csv", {"train": [0, 1], "dev": [1]})
    assert load("imdb", tmp_path).remarks == ("not used, files: 2 (dev.csv, train.csv)",)
    assert folder.is_dir()


def broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("make", "message"), [(broken_link, "a broken link"), (os.mkfifo, "not a regular file")]
)
def test_what_is_named_like_an_image_and_is_none(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path)
    make(folder / "train" / "a" / "9.png")
    with pytest.raises(InputError, match=rf"a/9\.png: {message}"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("make", [broken_link, os.mkfifo, os.mkdir])
def test_a_split_that_is_no_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    folder = write_texts(tmp_path, "csv", {"train": [0, 1] * 10})
    make(folder / "test.csv")
    with pytest.raises(InputError, match=r"no test-\*\.parquet there.*there is test\.csv, train"):
        load("imdb", tmp_path)


def test_a_folder_named_like_an_image_is_said(tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    (folder / "train" / "a" / "9.png").mkdir()
    assert load("mnist", tmp_path).remarks == (
        "not used, folders within classes: 1 (train/a/9.png)",
    )


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    for split in ("train", "test"):
        (folder / split / "c").rename(os.fsdecode(os.fsencode(folder / split) + b"/caf\xe9"))
    junk = os.fsdecode(os.fsencode(folder) + b"/not\xe9es")
    Path(junk).touch()
    for _ in range(2):
        data = load("mnist", tmp_path)
        assert (data.test.x[:, 0, 0, 0] // 10 == data.test.y).all()
        assert data.classes[2] == "caf\\xe9"
        assert data.remarks == ("not used, files: 1 (not\\xe9es)",)


def test_names_that_are_patterns_elsewhere(tmp_path: Path) -> None:
    data_dir = tmp_path / "My%20 [data]{x}::a=b#?*"
    write_texts(data_dir, "parquet", {"train": [0, 1] * 10, "test": [0, 1]})
    assert len(load("imdb", data_dir).test) == 2


# ---------------------------------------------------------------------------------- rows


def write_rows(folder: Path, form: str, texts: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels = [row % 2 for row in range(len(texts))]
    write_texts(folder.parent, "parquet", {"train": [0, 1] * 10})
    path = folder / f"test.{form}"
    if form == "parquet":
        write_parquet(path, {"text": texts, "label": labels})
    elif form == "jsonl":
        rows = [{"text": text, "label": y} for text, y in zip(texts, labels, strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=",\t"[form == "tsv"])
            writer.writerows([("text", "label"), *zip(texts, labels, strict=True)])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "texts",
    [
        ["2020-01-01", "2021-12-31"],
        ["2020-01-01 10:00:00", "2020-01-02 11:00:00"],
        ["007", "1.50"],
        ["true", "False"],
        ["NA", "null"],
        ["nan", "N/A"],
    ],
    ids=lambda texts: texts[0],
)
def test_a_text_stays_the_text_it_was(form: str, texts: list[str], tmp_path: Path) -> None:
    from tune_adaptive.tasks.tables import read_table

    write_rows(tmp_path / "imdb", form, texts)
    assert read_table(tmp_path / "imdb" / f"test.{form}", ["text"]).cells == texts
    assert len(load("imdb", tmp_path).test) == 2


def raw(form: str, content: bytes | str) -> Callable[[Path], object]:
    encoded = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / f"test.{form}").write_bytes(encoded)


def parquet(**columns: list[Any]) -> Callable[[Path], object]:
    return lambda folder: write_parquet(folder / "test.parquet", columns)


def twice(folder: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array([1])], list("ttl"))
    pq.write_table(table.rename_columns(["text", "text", "label"]), folder / "test.parquet")


def not_utf8(folder: Path) -> None:
    text = pa.array([b"fine", b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": text, "label": [0, 1]}), folder / "test.parquet")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            raw("csv", "text,label\ncaf\xe9,1\n".encode("latin-1")),
            r"line 2: not UTF-8 \(byte 0xe9\)",
        ),
        (raw("tsv", b"text\tlabel\na\t1\n\xff\xfe\t0\n"), r"line 3: not UTF-8 \(byte 0xff\)"),
        (raw("jsonl", b'{"text": "caf\xe9", "label": 1}\n'), r"line 1: not UTF-8"),
        (not_utf8, "Invalid UTF8"),
        (raw("csv", "text,text,label\na,b,1\n"), "has text more than once among its columns"),
        (raw("csv", "text,label,label\na,0,1\n"), "has label more than once among its columns"),
        (
            raw("jsonl", '{"text": "a", "text": "b", "label": 1}\n'),
            "line 1: .*'text' is given twice",
        ),
        (twice, "has text more than once among its columns"),
        (raw("csv", "text,label\ngreat,1,0\n"), "line 2: 3 fields, the header has 2"),
        (raw("csv", "text,label\ngreat\n"), "line 2: 1 fields, the header has 2"),
        (raw("csv", 'text,label\n"great,1\nx,0\n'), "line 3: unexpected end of data"),
        (raw("csv", "text;label\na;1\n"), r"has \['text;label'\]; is it separated by ';'"),
        (raw("csv", ""), r"needs the columns text and label, has \[\]"),
        (
            raw("tsv", 'text\tlabel\n"a\t1\nb"\t0\n'),
            "line 3: a quoted field goes over several lines",
        ),
        (raw("csv", "text,label\n ,1\n"), "line 2: the text is empty"),
        (raw("jsonl", '{"text": 5, "label": 1}\n'), "line 1: must be text, is int: 5"),
        (raw("jsonl", '{"text": null, "label": 1}\n'), "line 1: the text is missing"),
        (raw("jsonl", '{"text": {"a": 1}, "label": 1}\n'), "line 1: must be text, is dict"),
        (raw("jsonl", '{"text": "\\ud800x", "label": 1}\n'), "line 1: .* half a surrogate pair"),
        (raw("jsonl", "[" * 100_000), "line 1: not JSON that can be read"),
        (raw("jsonl", "[1]\n"), "line 1: must be an object"),
        (raw("jsonl", '{"text": "a"}\n'), "line 1: needs the columns text and label"),
        (
            raw("jsonl", '{"text": "a", "label": 1' + "0" * 400 + "}\n"),
            r"label 10+\.\.\.0+; must be",
        ),
        (
            raw("jsonl", '{"text": "a", "label": 1' + "0" * 5000 + "}\n"),
            "line 1: not JSON that can",
        ),
        (parquet(text=[1, 2], label=[0, 1]), "row 0: must be text, is int: 1"),
        (parquet(text=[b"a", b"b"], label=[0, 1]), "row 0: must be text, is bytes"),
        (parquet(text=["a", None], label=[0, 1]), "row 1: the text is missing"),
        (parquet(text=["a", "b"], label=[0.0, 1.0]), r"row 0: label 0\.0; must be an integer"),
        (raw("parquet", b"PAR1"), "cannot be read, truncated perhaps"),
        (raw("parquet", b""), "cannot be read, truncated perhaps"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rows_that_are_not_what_is_needed(
    spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    spoil(write_texts(tmp_path, "parquet", {"train": [0, 1] * 10}))
    with pytest.raises(InputError, match=message) as told:
        load("imdb", tmp_path)
    assert "imdb/test." in str(told.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_that_says_its_encoding_is_read(encoding: str, tmp_path: Path) -> None:
    from tune_adaptive.tasks.tables import read_table

    path = tmp_path / "test.csv"
    path.write_text('text,label\n"caf\xe9, with\na line",1\n', encoding=encoding)
    assert read_table(path, ["text"]).cells == ["caf\xe9, with\na line"]


def test_datasets_is_imported_for_its_own_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    write_texts(tmp_path, "parquet", {"train": [0, 1] * 10, "test": [0, 1]})
    load("imdb", tmp_path)
    write_named(tmp_path / "imdb" / "test.parquet", ["pos", "neg"], [0, 1, 1])
    with pytest.raises(ImportError):
        load("imdb", tmp_path)
