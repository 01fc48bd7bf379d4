"""Early stopping within one arm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_adaptive.protocol.asha import Asha, first_rung


@pytest.mark.parametrize(
    ("num_epochs", "rungs"),
    [(1, ()), (2, (1,)), (3, (1,)), (4, (2,)), (6, (2,)), (9, (3,)), (27, (9,)), (50, (17,))],
)
def test_the_first_rung_is_at_a_third_or_later(num_epochs: int, rungs: tuple[int, ...]) -> None:
    assert Asha(num_epochs).rungs == rungs
    assert first_rung(num_epochs) >= num_epochs / 3


def test_the_first_run_at_a_rung_always_goes_on() -> None:
    assert Asha(9).goes_on("a", 3, 0.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_run_goes_on_if_it_is_among_the_best_third_so_far(values: list[float]) -> None:
    asha = Asha(9)
    for index, value in enumerate(values):
        so_far = values[: index + 1]
        num_better = sum(other > value for other in so_far)
        assert asha.goes_on(str(index), 3, value) == (num_better < max(1, len(so_far) // 3))


def test_a_run_that_begins_anew_is_off_every_rung() -> None:
    asha = Asha(9)
    for run, value in (("a", 0.9), ("b", 0.6), ("c", 0.7)):
        asha.goes_on(run, 3, value)
    asha.forget("a", 0)
    assert asha.goes_on("d", 3, 0.8), "the best of three"
    assert not asha.goes_on("a", 3, 0.75)
