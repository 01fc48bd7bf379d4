"""Data as arrays: the embedded subset, what is checked, stratified cuts."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.tasks.published import publish
from tune_adaptive.errors import InputError
from tune_adaptive.tasks import Dataset, Examples, Task, fashion_mnist_mini
from tune_adaptive.tasks.data import load_fashion_mnist_mini, split_validation, stratified
from tune_adaptive.tasks.fashion_mnist_mini.make import make
from tune_adaptive.tasks.feed import Split

SHA256 = "e3752d9304b8dc3cafeac4e4045a6ab78ee6285dd73d5cb281ad48f4678e1b32"


def test_the_embedded_subset_is_what_it_was() -> None:
    data = load_fashion_mnist_mini()
    assert data.sha256() == SHA256
    assert [len(split) for split in data.splits.values()] == [5000, 1000, 2000]
    for split in data.splits.values():
        assert split.x.shape[1:] == (28, 28, 1)
        assert len(set(np.bincount(split.y, minlength=10))) == 1, "stratified"
    assert data.problems() == []


def test_the_embedded_subset_is_small_and_carries_its_notice() -> None:
    folder = Path(fashion_mnist_mini.__file__).parent
    assert (folder / "data.npz").stat().st_size < 4_000_000
    notice = (folder / "LICENSE").read_text(encoding="utf-8")
    assert "The MIT License" in notice
    assert "Zalando SE" in notice


def test_no_image_is_in_two_splits() -> None:
    train, validation, test = (
        {image.tobytes() for image in split.x}
        for split in load_fashion_mnist_mini().splits.values()
    )
    assert not train & validation
    assert not (train | validation) & test


def test_the_description_is_of_the_training_split() -> None:
    data = load_fashion_mnist_mini()
    description = data.describe()
    pixels = data.train.x.astype(float)
    assert (description.kind, description.num_classes) == ("image", 10)
    assert description.shape == (28, 28, 1)
    assert description.mean[0] == pytest.approx(pixels.mean())
    assert description.std[0] == pytest.approx(pixels.std())
    assert description.complexity.num_examples == 5000


def test_features_and_texts_are_described() -> None:
    y = np.array([0, 1, 0])
    x = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]], dtype=np.float32)
    table = Examples(x, y)
    description = Dataset(table, table, table).describe()
    assert (description.kind, description.shape) == ("features", (2,))
    assert description.mean == (3.0, 5.0)
    assert description.std == pytest.approx((np.std([1, 3, 5]), 1.0)), "a constant divides by 1"
    texts = Examples(np.ones((3, 8), np.int32), y, np.array([2, 4, 6], np.int32))
    description = Dataset(texts, texts, texts, vocab_size=9).describe()
    assert (description.kind, description.shape, description.vocab_size) == ("text", (8,), 9)
    assert description.complexity.num_features == 4.0, "the mean token count"


def table(y: list[int], width: int = 2) -> Examples:
    return Examples(np.ones((len(y), width), np.float32), np.array(y, dtype=np.int64))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (Dataset(table([0, 1]), table([0]), table([])), "test: is empty"),
        (Dataset(table([0, 2]), table([0]), table([0])), "train: no example of class 1"),
        (Dataset(table([0, 0]), table([0]), table([0])), "classes must be 0, 1"),
        (Dataset(table([0, 1]), table([2]), table([0])), "validation: a label 2"),
        (Dataset(table([0, 1]), table([0]), table([-1])), "test: a label -1"),
        (Dataset(table([0, 1]), table([0], width=3), table([0])), r"validation: .* shape \(3,\)"),
        (
            Dataset(table([0, 1]), Examples(np.full((1, 2), np.nan), np.array([0])), table([0])),
            "validation: features must be finite",
        ),
        (
            Dataset(Examples(np.ones((3, 2)), np.array([0, 1])), table([0]), table([0])),
            "train: its arrays have different lengths: 3, 2",
        ),
        (
            Dataset(Examples(np.ones((2, 2)), np.ones((2, 1, 1))), table([0]), table([0])),
            r"train: y must have the shape \(N,\) for classes, \(N,\) or \(N, M\) for numbers",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_told(data: Dataset, problem: str) -> None:
    import re

    assert re.search(problem, "\n".join(data.problems()))


def own(x: object, y: object = (0, 1), lengths: object = None, vocab_size: int = 0) -> Task:
    """A task of a person's own, all of whose splits are these."""
    y = np.array(y) if isinstance(y, tuple) else y
    split = Examples(x, y, lengths)  # type: ignore[arg-type]
    return Task("own/data", Dataset(split, split, split, vocab_size), build=nn.Identity)


FEATURES = np.array([[1, 2], [3, 4]])


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u8", "?", ">i2"])
def test_whole_labels_are_cast(dtype: str) -> None:
    data = own(FEATURES.astype(np.float32), np.array([0, 1], dtype)).load()
    assert data.train.y.dtype == np.int64 and data.train.y.tolist() == [0, 1]
    assert Split.of(data.train, torch.device("cpu")).y.dtype == torch.int64


@pytest.mark.parametrize(
    "x",
    [
        FEATURES,
        FEATURES.astype(np.float64),
        FEATURES.astype(np.float16),
        FEATURES.astype(">f4"),
        FEATURES.astype(np.uint8),
        np.asfortranarray(FEATURES.astype(np.float32)),
        FEATURES.astype(np.float32)[::-1][::-1],
        np.repeat(FEATURES.astype(np.float32), 2, axis=1)[:, ::2],
    ],
    ids=lambda x: f"{x.dtype} {x.strides}",
)
def test_features_are_cast_and_laid_out(x: np.ndarray) -> None:
    given_ = own(x).load().train.x
    assert given_.dtype == np.float32 and given_.dtype.isnative and given_.flags.c_contiguous
    assert given_.tolist() == FEATURES.tolist()


def test_what_is_as_promised_is_not_copied() -> None:
    task = own(FEATURES.astype(np.float32), np.array([0, 1]))
    assert isinstance(task.data, Dataset)
    assert task.load().train.x is task.data.train.x
    assert task.load().train.y is task.data.train.y


def test_images_and_token_ids_are_cast_where_they_fit() -> None:
    images = own(np.full((2, 4, 4, 1), 255)).load()
    assert (images.train.x.dtype, images.describe().kind) == (np.uint8, "image")
    ids, lengths = np.array([[1, 4], [2, 0]]), np.array([2, 1])
    texts = own(ids, (0, 1), lengths, vocab_size=5).load()
    assert texts.train.lengths is not None
    assert (texts.train.x.dtype, texts.train.lengths.dtype) == (np.int32, np.int32)


FLOATS = FEATURES.astype(np.float32)
IDS, LENGTHS = np.array([[1, 4], [2, 0]], np.int32), np.array([2, 1], np.int32)


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (own([[1.0], [2.0]]), "x must be a NumPy array, is list"),
        (own(torch.ones(2, 2)), "x must be a NumPy array, is Tensor"),
        (own(np.ma.masked_array(FLOATS, FLOATS > 2)), "x must be a NumPy array, is MaskedArray"),
        (own(FLOATS, [0, 1]), "y must be a NumPy array, is list"),
        (own(np.array([["a", "b"], ["c", "d"]])), "x must be an array of numbers, is <U1"),
        (own(FLOATS.astype(object)), "x must be an array of numbers, is object"),
        (own(FLOATS + 1j), "x must be an array of numbers, is complex"),
        (own(np.float32(1)), "x must be a NumPy array, is float32"),
        (own(np.array(1.0)), r"x must be an array of numbers, is float64 of shape \(\)"),
        (
            own(FLOATS, np.eye(2, dtype=int)),
            r"y must have the shape \(N,\) for classes, .*, has \(2, 2\)",
        ),
        (own(FLOATS, np.array(["a", "b"])), "y must be an array of numbers"),
        (own(FLOATS, np.array([0.5, 1.0])), r"the targets are numbers .*y\.astype\(np.int64"),
        (own(FLOATS, np.array([0.5, np.inf])), "y must be finite numbers within float32; row 1"),
        (own(FLOATS, np.ones((2, 0))), "y has no numbers"),
        (own(FLOATS, np.array([0, 2**63], np.uint64)), "no example of class 1 and 92"),
        (own(FLOATS, np.array([0, 10**15])), "no example of class 1 and 999999999999998 others"),
        (own(np.ones((2, 4, 4, 1), np.float32)), r"must be images, uint8 \(N, H, W, C\)"),
        (own(np.full((2, 4, 4, 1), 256)), r"must be images, uint8 \(N, H, W, C\)"),
        (own(np.ones((2, 4, 4), np.uint8)), r"must be images, uint8 \(N, H, W, C\)"),
        (own(np.ones((2, 4, 0, 1), np.uint8)), "no axis may be 0"),
        (own(np.ones((2, 0), np.float32)), "has no features"),
        (own(np.ones(2, np.float32)), r"x is float32 of shape \(2,\)"),
        (own(FEATURES + 2**24), r"whole numbers beyond 2\*\*24 lose digits"),
        (own(FEATURES * 1e300), "finite numbers within float32; row 0"),
        (own(np.array([[1, 2], [3, np.inf]])), "finite numbers within float32; row 1"),
        (own(IDS, vocab_size=5), "vocab_size is 5, so these are texts, but there are no lengths"),
        (own(IDS, (0, 1), LENGTHS), "vocab_size is not given"),
        (own(IDS, (0, 1), LENGTHS, vocab_size=4), r"ids must be in \[0, 3\].*row 0 has 4"),
        (own(-IDS, (0, 1), LENGTHS, vocab_size=9), r"ids must be in \[0, 8\].*row 0 has -4"),
        (own(IDS.astype(np.int64) + 2**32, (0, 1), LENGTHS, 9), "row 0 has 4294967300"),
        (own(IDS, (0, 1), LENGTHS - 1, vocab_size=5), r"lengths must be in \[1, 2\]; row 1 has 0"),
        (own(IDS, (0, 1), LENGTHS + 1, vocab_size=5), r"lengths must be in \[1, 2\]; row 0 has 3"),
        (own(FLOATS, (0, 1), LENGTHS, vocab_size=5), "token ids must be int32"),
        (own(IDS, (0, 1), LENGTHS[:, None], vocab_size=5), "token ids must be int32"),
        (own(IDS[:, :0], (0, 1), LENGTHS, vocab_size=5), r"lengths must be in \[1, 0\]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_are_not_what_is_promised(task: Task, problem: str) -> None:
    with np.errstate(over="ignore"), pytest.raises(InputError, match=f"own/data: .*{problem}"):
        task.load()


@pytest.mark.parametrize("bad", ["validation", "test"])
@pytest.mark.parametrize(
    ("split", "problem"),
    [
        (Examples(np.array([[9]]), np.array([0]), np.array([1])), "row 0 has 9"),
        (Examples(np.array([[-1]]), np.array([0]), np.array([1])), "row 0 has -1"),
        (Examples(np.array([[1]]), np.array([0]), np.array([0])), "lengths .* row 0 has 0"),
        (Examples(np.array([[1]]), np.array([2]), np.array([1])), "a label 2"),
        (Examples([[1]], np.array([0]), np.array([1])), "x must be a NumPy array"),  # type: ignore[arg-type]
        (("x", "y"), "must be Examples, is tuple"),
    ],
)
def test_all_splits_are_checked_before_anything_is_planned(
    bad: str, split: Examples, problem: str
) -> None:
    fine = Examples(np.array([[1], [2]]), np.array([0, 1]), np.array([1, 1]))
    splits = {"train": fine, "validation": fine, "test": fine} | {bad: split}
    with pytest.raises(InputError, match=f"own/data: {bad}: .*{problem}"):
        Task("own/data", Dataset(**splits, vocab_size=5), build=nn.Identity).load()


def test_nothing_of_the_size_of_the_data_is_copied() -> None:
    x = np.random.default_rng(0).normal(size=(400_000, 8)).astype(np.float32)  # 12.8 MB
    split = Examples(x, np.arange(len(x)) % 2)
    few = Examples(x[:9], split.y[:9])
    tracemalloc.start()
    data = Task("own/data", Dataset(split, few, few), build=nn.Identity).load()
    description = data.describe()
    assert tracemalloc.get_traced_memory()[1] < x.nbytes / 3 + 8e6  # labels: 3.2 MB, twice
    tracemalloc.stop()
    assert description.mean == pytest.approx(x.mean(axis=0, dtype=np.float64))
    assert description.std == pytest.approx(x.std(axis=0, dtype=np.float64))


def test_the_script_makes_disjoint_stratified_splits_again_and_again(tmp_path: Path) -> None:
    publish(tmp_path / "data", "fashion_mnist", num_train=60, num_test=20)
    outs = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for out in outs:
        make(tmp_path / "data", out, num_train=40, num_validation=10, num_test=10)
    assert outs[0].read_bytes() == outs[1].read_bytes()
    with np.load(outs[0], allow_pickle=False) as file:
        assert [len(file[f"{name}_y"]) for name in ("train", "validation", "test")] == [40, 10, 10]
        assert np.bincount(file["train_y"]).tolist() == [4] * 10
        images = [{image.tobytes() for image in file[f"{name}_x"]} for name in ("train", "test")]
        assert not images[0] & images[1]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_every_class_keeps_its_share(labels: list[int], data: st.DataObject) -> None:
    num = data.draw(st.integers(0, len(labels)))
    y = np.array(labels)
    picked = stratified(y, num, np.random.default_rng(0))
    assert len(picked) == len(set(picked)) == num
    counts = np.bincount(y[picked], minlength=5)
    ideal = np.bincount(y, minlength=5) * num / len(y)
    assert (abs(counts - ideal) < 1).all()


@pytest.mark.parametrize(
    ("num", "train_size", "sizes"),
    [
        (1000, None, (900, 100)),
        (80_000, None, (75_000, 5000)),
        (1000, 50, (50, 25)),
        (1000, 900, (900, 100)),
        (12, None, (11, 1)),
    ],
)
def test_validation_is_a_tenth_and_bounded(
    num: int, train_size: int | None, sizes: tuple[int, int]
) -> None:
    labels = np.arange(num) % 2
    train, validation = split_validation(labels, train_size)
    assert (len(train), len(validation)) == sizes
    assert not set(train) & set(validation)
    again = split_validation(labels, train_size)
    assert (again[0] == train).all() and (again[1] == validation).all()


def test_more_than_there_is_cannot_be_trained_on() -> None:
    with pytest.raises(InputError, match="--train-size 95: there are 90 training examples and 10"):
        split_validation(np.arange(100) % 2, 95)
    with pytest.raises(InputError, match="--train-size 6000: there are 5000"):
        load_fashion_mnist_mini().with_train_size(6000)
    small = load_fashion_mnist_mini().with_train_size(100)
    assert np.bincount(small.train.y).tolist() == [10] * 10
