"""Make the embedded data set: a stratified subset of FashionMNIST.

    python -m tune_adaptive.tasks.fashion_mnist_mini.make --data-dir DIR

reads ``DIR/fashion_mnist/{train,test}-*.parquet`` (the hub's own columns) and writes
``data.npz`` beside this file: 5,000 training and 1,000 validation images from the
published training split, 2,000 test images from the published test split.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from tune_adaptive.tasks.data import stratified
from tune_adaptive.tasks.datasets import DATASETS
from tune_adaptive.tasks.files import find_files
from tune_adaptive.tasks.read import read_files

HERE = Path(__file__).parent
SEED = 2017  # the year of the data set


def make(
    data_dir: Annotated[Path, typer.Option(help="Folder that holds fashion_mnist/.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = HERE / "data.npz",
    num_train: int = 5000,
    num_validation: int = 1000,
    num_test: int = 2000,
) -> None:
    """Write the subset as one compressed file."""
    rng = np.random.default_rng(SEED)
    source = DATASETS["fashion_mnist"]
    files = find_files("fashion_mnist", source, data_dir)
    read = read_files("fashion_mnist", files, source).splits
    (train_x, train_y), (test_x, test_y) = read["train"], read["test"]
    assert isinstance(train_x, np.ndarray) and isinstance(test_x, np.ndarray)
    picked = stratified(train_y, num_train + num_validation, rng)
    inner = stratified(train_y[picked], num_validation, rng)
    held_out = np.zeros(len(picked), dtype=bool)
    held_out[inner] = True
    test = stratified(test_y, num_test, rng)
    arrays: dict[str, npt.NDArray[Any]] = {
        "train_x": train_x[picked[~held_out]],
        "train_y": train_y[picked[~held_out]],
        "validation_x": train_x[picked[held_out]],
        "validation_y": train_y[picked[held_out]],
        "test_x": test_x[test],
        "test_y": test_y[test],
    }
    np.savez_compressed(out, allow_pickle=False, **arrays)
    print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    typer.run(make)
