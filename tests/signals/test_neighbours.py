"""What others use of the CPUs, on a machine that is made up."""

from collections.abc import Mapping

import psutil
import pytest

from tune_adaptive.signals import neighbours
from tune_adaptive.signals.neighbours import Neighbours


class Machine:
    """Four CPUs, whose time passes when it is told to."""

    num_cpus = 4

    def __init__(self) -> None:
        self.now = 1000.0
        self.busy = 0.0
        self.ours: dict[int, float] = {1: 5.0}

    def cpus(self) -> list[tuple[float, float]]:
        passed, each = self.now - 1000.0, self.busy / self.num_cpus
        return [(passed - each, each)] * self.num_cpus

    def processes(self) -> Mapping[int, float]:
        return dict(self.ours)

    def neighbours(self) -> Neighbours:
        return Neighbours(self.cpus, self.processes, lambda: self.now)

    def work(self, seconds: float, ours: Mapping[int, float], others: float) -> None:
        """Let time pass, in which CPUs are used by our processes and by others."""
        self.now += seconds
        self.busy += seconds * (sum(ours.values()) + others)
        for process, cpus in ours.items():
            self.ours[process] = self.ours.get(process, 0.0) + seconds * cpus


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_others_use_what_we_do_not(machine: Machine) -> None:
    beside = machine.neighbours()
    beside.look()
    assert beside.between(0, 1e9) is None
    assert beside.pressing() is None
    machine.work(2.0, {1: 0.5, 2: 1.0}, others=2.4)  # process 2 is new
    beside.look()
    assert beside.between(0, 1e9) == pytest.approx(2.4)
    pressing = beside.pressing()
    assert str(pressing) == "other processes use 2.4 of 4 CPUs"


@pytest.mark.parametrize(
    ("ours", "others"), [(1.0, 2.0), (4.0, 0.0), (3.9, 0.1)], ids=["idle", "ours", "next to none"]
)
def test_nobody_presses_where_cpus_are_free_or_we_have_them(
    machine: Machine, ours: float, others: float
) -> None:
    beside = machine.neighbours()
    beside.look()
    machine.work(2.0, {1: ours}, others)
    beside.look()
    assert beside.between(0, 1e9) == pytest.approx(others, abs=1e-9)
    assert beside.pressing() is None


def test_a_process_of_ours_that_ended_does_not_make_others_negative(machine: Machine) -> None:
    machine.ours[2] = 50.0
    beside = machine.neighbours()
    beside.look()
    del machine.ours[2]
    machine.work(2.0, {1: 1.0}, others=0.0)
    beside.look()
    assert beside.between(0, 1e9) == 0.0


def test_an_epoch_is_told_of_its_own_time(machine: Machine) -> None:
    beside = machine.neighbours()
    beside.look()
    for others in (0.0, 1.0, 3.0):  # looks at 1002, 1004 and 1006
        machine.work(2.0, {1: 1.0}, others)
        beside.look()
    assert beside.between(1003.0, 1006.5) == pytest.approx(2.0)
    assert beside.between(1002.5, 1003.0) == pytest.approx(1.0), "the look after it"
    assert beside.between(1006.5, 1007.0) == pytest.approx(3.0), "the last there is"


def test_what_was_seen_long_ago_is_not_said(machine: Machine) -> None:
    beside = machine.neighbours()
    beside.look()
    machine.work(2.0, {1: 1.0}, others=3.0)
    beside.look()
    assert beside.pressing() is not None
    machine.now += 60.0
    assert beside.pressing() is None


def test_where_nothing_can_be_read_nothing_is_measured() -> None:
    def hidden() -> list[tuple[float, float]]:
        raise psutil.AccessDenied

    beside = Neighbours(hidden)
    assert not beside.look()
    assert beside.between(0, 1e9) is None


def test_this_machine_can_be_read() -> None:
    assert len(neighbours._cpus()) == len(neighbours.visible_cpus())
    assert all(idle >= 0 and busy >= 0 for idle, busy in neighbours._cpus())
    assert neighbours._ours()[psutil.Process().pid] > 0
