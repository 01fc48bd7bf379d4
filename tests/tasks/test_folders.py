"""A person's own files as a data set."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.tasks import Dataset, TaskOptions, inapplicable, make_task, unknown_task

WORDS = ("good fine great", "bad poor awful", "so so")
FORMS = ("csv", "tsv", "jsonl", "parquet")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def rows(labels: Sequence[object], num: int = 60) -> list[tuple[str, object]]:
    return [(f"{WORDS[i % len(labels)]} {i}", labels[i % len(labels)]) for i in range(num)]


def write(
    path: Path,
    labels: Sequence[object],
    num: int = 60,
    names: tuple[str, ...] = ("text", "label"),
    more: Sequence[object] = (),
) -> Path:
    """Write rows in the form that the path's suffix says; ``more`` fills further columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = [(*row, *more) for row in rows(labels, num)]
    if path.suffix == ".parquet":
        columns = dict(zip(names, zip(*table, strict=True), strict=True))
        pq.write_table(pa.table({name: list(column) for name, column in columns.items()}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, r, strict=True))) + "\n" for r in table))
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([names, *table])
    return path


def load(path: Path, model: str = "lstm", **options: object) -> Dataset:
    return make_task(f"folder:{path}/{model}", TaskOptions(**options)).load()  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", [("neg", "pos"), (1, 2), (0, 1), (-1, 1), (7, 10, 8)])
def test_one_file_is_a_data_set(form: str, labels: tuple[object, ...], tmp_path: Path) -> None:
    write(tmp_path / "reviews" / f"all.{form}", labels)
    data = load(tmp_path / "reviews")
    assert data.classes == tuple(map(str, sorted(labels)))
    assert sorted(set(data.train.y.tolist())) == list(range(len(labels)))
    sizes = [len(split) for split in data.splits.values()]
    assert sizes[2] == 12 and sum(sizes) == 60
    assert "no test split: 12 examples of train are it, drawn once" in data.remarks
    again = load(tmp_path / "reviews" / f"all.{form}")
    assert again.sha256() == data.sha256(), "the file itself is the same data set"


def test_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    for split, num in (("train", 40), ("validation", 10), ("test", 20)):
        write(tmp_path / "own" / f"{split}.csv", ("b", "a"), num)
    data = load(tmp_path / "own")
    assert [len(split) for split in data.splits.values()] == [40, 10, 20]
    assert data.train.y[0] == 1 and data.classes == ("a", "b")
    assert make_task(f"folder:{tmp_path / 'own'}/lstm").name == "own/lstm"


def test_a_label_of_test_alone_is_told(tmp_path: Path) -> None:
    write(tmp_path / "own" / "train.csv", ("a", "b"))
    write(tmp_path / "own" / "test.csv", ("a", "c"))
    with pytest.raises(InputError, match=r"class 'c' is not in train; there is a, b"):
        load(tmp_path / "own")


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("review", "sentiment"), {}, None),
        (("text", "class", "source"), {}, None),
        (("review", "stars", "source"), {}, r"which column holds the labels\? --label-column NAME"),
        (("review", "label", "source"), {}, r"--text-column NAME; there is review, source"),
        (("label", "class"), {}, r"--label-column NAME; there is label, class"),
        (("review", "stars", "x"), {"label_column": "stars", "text_column": "review"}, None),
        (("text", "label"), {"label_column": "lable"}, r"lable: .* has not; did you mean 'label'"),
        (("text", "label"), {"text_column": "x"}, r"--text-column x: .* has not"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_columns_are_found_or_asked_for(
    form: str, names: tuple[str, ...], options: dict[str, str], message: str | None, tmp_path: Path
) -> None:
    path = write(
        tmp_path / f"all.{form}", ("no", "yes"), names=names, more=("web",) * (len(names) - 2)
    )
    if message is None:
        assert load(path, **options).classes == ("no", "yes")
        return
    with pytest.raises(InputError, match=message):
        load(path, **options)


@pytest.mark.parametrize(
    ("label", "message"),
    [(0.5, r"label 0.5; must be a text or a whole number"), (None, "the label is missing")],
)
def test_labels_that_are_no_classes_are_told(label: object, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", (label, "b"))
    with pytest.raises(InputError, match=message):
        load(path)


def test_a_column_where_each_row_has_its_own_value_is_no_label(tmp_path: Path) -> None:
    path = write(tmp_path / "all.csv", tuple(f"row {i}" for i in range(3)), num=3)
    with pytest.raises(InputError, match=r"3 classes in 3 examples: is 'label' the column"):
        load(path)


def draw(folder: Path, size: tuple[int, int], mode: str, names: Sequence[str] = "ab") -> None:
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(20):
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(
                folder / name / f"{size[0]}{mode}{index}.png"
            )


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("P", 3), ("1", 1)])
def test_a_folder_of_images_a_class_is_a_data_set(mode: str, channels: int, tmp_path: Path) -> None:
    draw(tmp_path / "pictures", (12, 10), mode)
    data = load(tmp_path / "pictures", "cnn")
    assert data.train.x.shape[1:] == (12, 10, channels)
    assert data.classes == ("a", "b")
    assert len(data.test) == 8


def test_images_of_several_sizes_are_scaled_where_a_size_is_given(tmp_path: Path) -> None:
    draw(tmp_path / "train", (12, 10), "RGB")
    draw(tmp_path / "train", (30, 16), "L")
    draw(tmp_path / "test", (8, 8), "RGB")
    with pytest.raises(InputError, match=r"2 sizes: .* --image-size N scales all to N x N"):
        load(tmp_path, "cnn")
    data = load(tmp_path, "cnn", image_size=16)
    assert {split.x.shape[1:] for split in data.splits.values()} == {(16, 16, 3)}
    assert any("grey as RGB: 40" in remark for remark in data.remarks)


def test_images_none_of_which_can_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="none of its 1 images can be read"):
        load(tmp_path, "cnn")


def test_images_in_a_table_are_scaled(tmp_path: Path) -> None:
    draw(tmp_path / "files", (12, 10), "RGB")
    files = sorted((tmp_path / "files").glob("*/*.png"))
    table = {
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
        "label": [file.parent.name for file in files],
    }
    (tmp_path / "own").mkdir()
    pq.write_table(pa.table(table), tmp_path / "own" / "all.parquet")
    with pytest.raises(InputError, match="need --image-size"):
        load(tmp_path / "own", "mlp")
    assert load(tmp_path / "own", "mlp", image_size=8).train.x.shape[1:] == (8, 8, 3)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("folder:nowhere/lstm", "no such file or folder"),
        ("folder:nowhere", "must be folder:.../MODEL"),
        ("hub:reviews/lstm", "must be hub:OWNER/NAME[@REVISION][#CONFIG]/MODEL"),
        ("hub:own/reviews", "unknown model 'reviews'"),
        ("folder:a/lstn", "unknown model 'lstn'; did you mean 'lstm'?"),
    ],
)
def test_a_folder_that_cannot_be_is_told(name: str, problem: str) -> None:
    assert problem in (unknown_task(name) or "")


def test_a_shard_that_is_missing_is_told(tmp_path: Path, snapshot: Path) -> None:
    write(tmp_path / "own" / "train-00000-of-00002.parquet", ("a", "b"))
    with pytest.raises(InputError, match=r"no train-00001-of-00002.parquet there"):
        load(tmp_path / "own")
    write(snapshot / "data" / "train-00000-of-00002.parquet", ("a", "b"))
    with pytest.raises(EnvironmentFault, match=r"only in part in the local hub cache"):
        make_task("hub:own/reviews/lstm")


def test_a_label_without_a_name_is_told(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    rows_of = {"text": [f"word {i}" for i in range(40)], "label": [-1, *([0, 1] * 20)][:40]}
    datasets.Dataset.from_dict(rows_of, features=features).to_parquet(str(tmp_path / "all.parquet"))
    with pytest.raises(InputError, match=r"label -1 has no name in the file"):
        load(tmp_path)


def test_images_that_are_not_used_are_told(tmp_path: Path) -> None:
    draw(tmp_path, (12, 10), "RGB")
    draw(tmp_path / "c", (12, 10), "RGB")
    data = load(tmp_path, "cnn")
    assert data.classes == ("a", "b")
    assert any("folders without images: 1 (c)" in remark for remark in data.remarks)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's local cache with one data set in it, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repo = tmp_path / "hub" / "datasets--own--reviews"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    return repo / "snapshots" / COMMIT


def test_a_data_set_of_the_hub_is_such_a_folder(snapshot: Path) -> None:
    write(snapshot / "data" / "train-00000-of-00001.parquet", ("a", "b"))
    write(snapshot / "data" / "test-00000-of-00001.parquet", ("a", "b"), 10)
    task = make_task("hub:own/reviews/lstm")
    assert (task.name, task.notes["data"]) == ("reviews/lstm", f"hub:own/reviews@{COMMIT}")
    assert len(task.load().test) == 10
    pinned = make_task(f"hub:own/reviews@{COMMIT}#data/lstm")
    assert pinned.load().sha256() == task.load().sha256()


def test_of_several_configurations_one_must_be_named(snapshot: Path) -> None:
    for config, num in (("short", 40), ("long", 80)):
        write(snapshot / config / "train.csv", ("a", "b"), num)
    with pytest.raises(InputError, match=r"which of its folders\? #CONFIG; there is long, short"):
        make_task("hub:own/reviews/lstm")
    assert len(make_task("hub:own/reviews#long/lstm").load().test) == 16
    with pytest.raises(EnvironmentFault, match=r"only in part in the local hub cache"):
        make_task("hub:own/reviews#middle/lstm")


def test_what_is_not_in_the_cache_is_told(snapshot: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"dataset own/others: not in the local hub cache"):
        make_task("hub:own/others/lstm")


def test_what_a_folder_lacks_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"no parquet, csv, tsv or jsonl .*; there is notes.txt"):
        load(tmp_path, "cnn")
    write(tmp_path / "one.csv", ("a", "b"))
    write(tmp_path / "two.csv", ("a", "b"))
    with pytest.raises(InputError, match=r"one.csv, two.csv: name them train and test"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"is text and cnn takes image; there is lstm"):
        load(tmp_path / "one.csv", "cnn")


def test_options_of_columns_are_for_folders_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "all.csv", ("a", "b"))
    asked = TaskOptions(label_column="label", image_size=8)
    assert [each.partition(":")[0] for each in inapplicable(["imdb/lstm"], asked)] == [
        *("--label-column label", "--image-size 8"),
    ]
    assert [each.partition(":")[0] for each in inapplicable([f"folder:{path}/lstm"], asked)] == [
        "--image-size 8"
    ]
