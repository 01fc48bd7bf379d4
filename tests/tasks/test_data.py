"""Data: the embedded subset, the reader it was made with, stratified picks."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tune_adaptive.errors import InputError
from tune_adaptive.tasks import fashion_mnist_mini
from tune_adaptive.tasks.data import load_fashion_mnist_mini, read_image_split, stratified
from tune_adaptive.tasks.fashion_mnist_mini.make import make

SHA256 = "e3752d9304b8dc3cafeac4e4045a6ab78ee6285dd73d5cb281ad48f4678e1b32"


def test_the_embedded_subset_is_what_it_was() -> None:
    data = load_fashion_mnist_mini()
    assert data.sha256() == SHA256
    assert [len(split) for split in (data.train, data.validation, data.test)] == [5000, 1000, 2000]
    for split in (data.train, data.validation, data.test):
        assert split.x.shape[1:] == (28, 28, 1)
        assert len(set(np.bincount(split.y, minlength=10))) == 1, "stratified"


def test_the_embedded_subset_is_small_and_carries_its_notice() -> None:
    folder = Path(fashion_mnist_mini.__file__).parent
    assert (folder / "data.npz").stat().st_size < 4_000_000
    notice = (folder / "LICENSE").read_text(encoding="utf-8")
    assert "The MIT License" in notice
    assert "Zalando SE" in notice


def test_no_image_is_in_two_splits() -> None:
    data = load_fashion_mnist_mini()
    train, validation, test = (
        {image.tobytes() for image in split.x} for split in (data.train, data.validation, data.test)
    )
    assert not train & validation
    assert not (train | validation) & test


def test_the_description_is_of_the_training_split() -> None:
    data = load_fashion_mnist_mini()
    description = data.describe()
    pixels = data.train.x.astype(float)
    assert description.num_classes == 10
    assert description.shape == (28, 28, 1)
    assert description.mean[0] == pytest.approx(pixels.mean())
    assert description.std[0] == pytest.approx(pixels.std())
    assert description.complexity.num_examples == 5000


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A folder in the layout of the hub: 40 training and 20 test images of two classes."""
    folder = tmp_path / "data" / "fashion_mnist"
    folder.mkdir(parents=True)
    for split, num in (("train", 40), ("test", 20)):
        cells = []
        for value in range(num):
            file = io.BytesIO()
            Image.new("L", (4, 4), color=value).save(file, format="PNG")
            cells.append({"bytes": file.getvalue(), "path": None})
        table = pa.table({"image": cells, "label": [i % 2 for i in range(num)]})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return tmp_path / "data"


def test_images_are_read_in_the_hubs_own_columns(data_dir: Path) -> None:
    x, y = read_image_split(data_dir / "fashion_mnist", "train")
    assert x.shape == (40, 4, 4, 1)
    assert x.dtype == np.uint8
    assert (x[:, 0, 0, 0] == np.arange(40)).all()
    assert (y == np.arange(40) % 2).all()


def test_the_script_makes_disjoint_stratified_splits_again_and_again(
    data_dir: Path, tmp_path: Path
) -> None:
    outs = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for out in outs:
        make(data_dir, out, num_train=20, num_validation=10, num_test=10)
    assert outs[0].read_bytes() == outs[1].read_bytes()
    with np.load(outs[0], allow_pickle=False) as file:
        assert [len(file[f"{name}_y"]) for name in ("train", "validation", "test")] == [20, 10, 10]
        assert np.bincount(file["train_y"]).tolist() == [10, 10]
        assert not set(file["train_x"][:, 0, 0, 0]) & set(file["validation_x"][:, 0, 0, 0])


def test_missing_files_and_columns_are_named(data_dir: Path) -> None:
    with pytest.raises(InputError, match=r"no validation-\*\.parquet there"):
        read_image_split(data_dir / "fashion_mnist", "validation")
    path = data_dir / "fashion_mnist" / "train-00000-of-00001.parquet"
    pq.write_table(pa.table({"picture": [1], "label": [0]}), path)
    with pytest.raises(InputError, match=r"needs the columns image .* has \['picture', 'label'\]"):
        read_image_split(data_dir / "fashion_mnist", "train")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_every_class_keeps_its_share(labels: list[int], data: st.DataObject) -> None:
    num = data.draw(st.integers(0, len(labels)))
    y = np.array(labels)
    picked = stratified(y, num, np.random.default_rng(0))
    assert len(picked) == len(set(picked)) == num
    counts = np.bincount(y[picked], minlength=5)
    ideal = np.bincount(y, minlength=5) * num / len(y)
    assert (abs(counts - ideal) < 1).all()
