"""How many trials fit, node by node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_adaptive.signals.capacity import Capacity, NodeCapacity


def nodes(*each: tuple[int, int]) -> Capacity:
    return Capacity([NodeCapacity(cpus, gpus) for cpus, gpus in each])


@pytest.mark.parametrize(
    ("capacity", "cpus_per_trial", "gpus_per_trial", "fits"),
    [
        (nodes((2, 0)), 1.0, 0.0, 2),
        (nodes((3, 0), (3, 0)), 2.0, 0.0, 2),  # 6 CPUs, and yet not 3 trials
        (nodes((8, 1), (8, 1)), 1.0, 0.6, 2),  # 2 GPUs, and yet not 3 trials
        (nodes((8, 2)), 1.0, 0.6, 2),  # nor is a trial cut in two by the edge of a GPU
        (nodes((0, 0), (8, 2), (8, 2)), 0.5, 0.25, 16),  # a head that only directs
        (nodes((2, 2), (2, 2), (2, 2)), 0.25, 0.25, 24),
        (nodes((16, 0), (1, 1)), 1.0, 1.0, 1),  # CPUs without a GPU beside them
        (nodes((2, 1)), 1.0, 1 / 3, 2),  # the CPUs end first
    ],
)
def test_trials_are_counted_by_node(
    capacity: Capacity, cpus_per_trial: float, gpus_per_trial: float, fits: int
) -> None:
    assert capacity.fits(cpus_per_trial, gpus_per_trial) == fits


@given(
    st.lists(st.tuples(st.integers(1, 128), st.integers(1, 8)), min_size=1, max_size=6),
    st.integers(1, 12),
)
def test_the_usual_share_of_cpus_never_leaves_a_gpu_idle(
    each: list[tuple[int, int]], on_a_gpu: int
) -> None:
    """As Ray counts: in ten-thousandths, rounded, so that 3 trials of 2/3 do not fit on 2."""
    capacity = nodes(*each)
    share = capacity.usual_cpus_per_trial(1 / on_a_gpu)
    assert capacity.fits(share, 1 / on_a_gpu) == sum(gpus for _, gpus in each) * on_a_gpu
    for cpus, gpus in each:
        assert round(share * 10_000) * gpus * on_a_gpu <= cpus * 10_000


def test_the_smallest_object_store_that_must_hold_the_data_counts() -> None:
    capacity = Capacity([NodeCapacity(0, 0, 10), NodeCapacity(4, 0, 30), NodeCapacity(4, 0, 20)])
    assert capacity.object_store_bytes(1.0, 0.0) == 20
    assert nodes((2, 0)).object_store_bytes(1.0, 0.0) is None
