"""From splits on a device to batches of a model's inputs."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tune_adaptive.tasks import Dataset, Examples
from tune_adaptive.tasks.augment import augmented
from tune_adaptive.tasks.data import pad
from tune_adaptive.tasks.feed import EVAL_TOKENS, ArrayFeed, Batch, Split, TextFeed, make_feed

CPU = torch.device("cpu")


def texts(lengths: list[int]) -> Split:
    """Texts of these lengths; the tokens of text i are all i + 1, its class is i."""
    rows = [[index + 1] * length for index, length in enumerate(lengths)]
    tokens, counted = pad(rows, 0)
    return Split.of(Examples(tokens, np.arange(len(lengths)), counted), CPU)


def order(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check_texts(batches: list[Batch], num: int) -> None:
    """Every text once, with its own tokens, class and length, and no column of padding only."""
    seen: list[int] = []
    for (tokens, lengths), y in batches:
        for row, length, label in zip(tokens, lengths, y, strict=True):
            assert (row[:length] == label + 1).all()
            assert (row[length:] == 0).all()
        assert tokens.shape[1] == lengths.max()
        seen += y.tolist()
    assert sorted(seen) == list(range(num))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=300), st.integers(1, 7))
def test_every_text_comes_once_an_epoch_and_no_padding_beyond_its_batch(
    lengths: list[int], batch_size: int
) -> None:
    split = texts(lengths)
    batches = list(TextFeed().train(split, batch_size, order()))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert all(len(y) <= batch_size for _, y in batches)
    check_texts(batches, len(lengths))
    check_texts(list(TextFeed().evaluate(split)), len(lengths))


def test_texts_of_like_length_are_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 2000).tolist()
    num_read = sum(x[0].numel() for x, _ in TextFeed().train(texts(lengths), 32, order()))
    in_order = [lengths[i : i + 32] for i in range(0, 2000, 32)]
    assert num_read < 1.05 * sum(lengths)
    assert sum(len(rows) * max(rows) for rows in in_order) > 1.8 * sum(lengths)


def test_evaluation_keeps_to_its_budget_of_tokens() -> None:
    lengths = [1] * 40_000 + [300] * 300
    sizes = [x[0].numel() for x, _ in TextFeed().evaluate(texts(lengths))]
    assert max(sizes) <= EVAL_TOKENS
    assert len(sizes) == 2 + 3
    assert [x[0].numel() for x, _ in TextFeed().evaluate(texts([2 * EVAL_TOKENS]))] == [
        2 * EVAL_TOKENS
    ], "a text that alone is longer comes alone"


@pytest.mark.parametrize("kind", ["text", "image"])
def test_the_order_is_drawn_from_the_seed_and_changes_each_epoch(kind: str) -> None:
    split = texts(list(range(1, 101))) if kind == "text" else images()[1]
    feed = TextFeed() if kind == "text" else make_feed(images()[0].describe(), "none", CPU, 0)

    def epochs(seed: int) -> list[list[int]]:
        drawn = order(seed)
        return [[c for _, y in feed.train(split, 8, drawn) for c in y.tolist()] for _ in range(2)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert first == again
    assert first[0] != first[1]
    assert first != other


def images(num: int = 100) -> tuple[Dataset, Split]:
    rng = np.random.default_rng(0)
    examples = Examples(
        rng.integers(0, 256, (num, 12, 10, 3)).astype(np.uint8), np.arange(num).astype(np.int64)
    )
    return Dataset(examples, examples, examples), Split.of(examples, CPU)


def test_images_come_standardised_in_channels_last() -> None:
    data, split = images()
    feed = make_feed(data.describe(), "none", CPU, 0)
    (x,), y = next(iter(feed.train(split, 100, order())))
    assert x.shape == (100, 3, 12, 10)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x.dtype == torch.float32
    assert torch.allclose(x.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3)
    assert sorted(y.tolist()) == list(range(100))


def test_features_come_standardised_and_stay_as_they_were() -> None:
    x = np.random.default_rng(0).normal(5, 3, (50, 4)).astype(np.float32)
    examples = Examples(x.copy(), np.arange(50) % 2)
    feed = make_feed(Dataset(examples, examples, examples).describe(), "none", CPU, 0)
    for _ in range(2):
        [((given_,), _)] = list(feed.evaluate(Split.of(examples, CPU)))
        assert torch.allclose(given_.mean(0), torch.zeros(4), atol=1e-5)
    assert (examples.x == x).all()


def test_nothing_is_copied_on_the_cpu_even_of_read_only_memory() -> None:
    data, _ = images()
    data.train.x.flags.writeable = False
    split = Split.of(data.train, CPU)
    assert split.x.data_ptr() == data.train.x.ctypes.data


# ---------------------------------------------------------------------- augmentation


def batch() -> Iterator[torch.Tensor]:
    rng = np.random.default_rng(0)
    yield torch.from_numpy(rng.integers(1, 256, (64, 12, 10, 3)).astype(np.uint8)).permute(
        0, 3, 1, 2
    )


def test_standard_is_a_shift_of_at_most_four_and_a_flip() -> None:
    [x] = batch()
    out = augmented(x, "standard", torch.Generator().manual_seed(0))
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4))
    found = set()
    for image, before in zip(out, padded, strict=True):
        places = [
            (down, right, flip)
            for down in range(9)
            for right in range(9)
            for flip in (False, True)
            for crop in [before[:, down : down + 12, right : right + 10]]
            if torch.equal(image, crop.flip(-1) if flip else crop)
        ]
        assert len(places) == 1
        found.add(places[0])
    assert {flip for *_, flip in found} == {False, True}
    assert {down for down, *_ in found} == set(range(9)) == {right for _, right, _ in found}


def test_shift_moves_by_at_most_two_and_mirrors_nothing() -> None:
    [x] = batch()
    out = augmented(x, "shift", torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    found = set()
    for image, before in zip(out, padded, strict=True):
        [place] = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if torch.equal(image, before[:, down : down + 12, right : right + 10])
        ]
        found.add(place)
    assert {down for down, _ in found} == set(range(5)) == {right for _, right in found}


def test_document_moves_what_it_says() -> None:
    x = torch.zeros(400, 1, 41, 41, dtype=torch.uint8)
    x[:, :, 18:23, 18:23] = 200  # a square in the middle
    out = augmented(x, "document", torch.Generator().manual_seed(0)).float()
    mass = out.sum(dim=(1, 2, 3))
    place = torch.arange(41.0) - 20
    down = (out.sum(dim=(1, 3)) * place).sum(1) / mass
    right = (out.sum(dim=(1, 2)) * place).sum(1) / mass
    for shift in (down, right):  # by 0.2 of 41, and what zoom and shear add to it
        assert 6 < shift.abs().max() < 0.2 * 41 * 1.2 * 1.3
        assert abs(shift.mean()) < 1
    zoom = (mass / (25 * 200)).sqrt()
    assert 0.75 < zoom.min() < 0.9
    assert 1.1 < zoom.max() < 1.3


def test_none_leaves_images_alone_and_evaluation_is_never_augmented() -> None:
    [x] = batch()
    assert augmented(x, "none", torch.Generator()) is x
    data, split = images()
    plain, changed = (
        ArrayFeed(data.describe(), augment, CPU, 0) for augment in ("none", "document")
    )
    for ours, theirs in zip(plain.evaluate(split), changed.evaluate(split), strict=True):
        assert torch.equal(ours[0][0], theirs[0][0])


def test_augmentation_is_drawn_from_the_seed() -> None:
    data, split = images()

    def first(seed: int) -> torch.Tensor:
        feed = make_feed(data.describe(), "standard", CPU, seed)
        return next(iter(feed.train(split, 50, order())))[0][0]

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
