"""Data as arrays: the embedded subset, what is checked, stratified cuts."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tasks.published import publish
from tune_adaptive.errors import InputError
from tune_adaptive.tasks import Dataset, Examples, fashion_mnist_mini
from tune_adaptive.tasks.data import load_fashion_mnist_mini, split_validation, stratified
from tune_adaptive.tasks.fashion_mnist_mini.make import make

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
            Dataset(Examples(np.ones((2, 2)), np.array([0.0, 1.0])), table([0]), table([0])),
            "train: labels must be integers, are float64",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_told(data: Dataset, problem: str) -> None:
    import re

    assert re.search(problem, "\n".join(data.problems()))


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
