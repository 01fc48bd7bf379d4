"""How many trials share a GPU: the choice, and what it is made of."""

import dataclasses
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.conftest import run_search
from tests.ray_backend.test_engine import plan
from tests.training.test_loop import TASK, linear, tiny_data
from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.planning import prepare as planning
from tune_adaptive.records.packing import (
    HEAD_ROOM,
    MAX_TRIALS_ON_A_GPU,
    TOLERANCE,
    Packed,
    choose,
    in_words,
    pack,
    trials_on_a_gpu,
)
from tune_adaptive.records.plan import Plan
from tune_adaptive.signals.capacity import Capacity, NodeCapacity
from tune_adaptive.tasks import Task, make_task
from tune_adaptive.tasks.data import Description, Examples, load_fashion_mnist_mini
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training import concurrency
from tune_adaptive.training.calibration import Measured
from tune_adaptive.training.concurrency import measure_packing
from tune_adaptive.training.loop import Material

MIB = 2**20


def machine(rates: dict[int, float], peak_bytes: int | None = None) -> Callable[[int], Packed]:
    """Return a measurement that finds these examples a second."""
    return lambda num_trials: Packed("a/b", num_trials, rates[num_trials], peak_bytes)


RATES = st.lists(st.floats(1, 1e6), min_size=4, max_size=4).map(
    lambda rates: dict(zip((1, 2, 4, 8), rates, strict=True))
)


@given(RATES, st.integers(1, 2**34), st.integers(1, 2**36))
def test_what_is_chosen_fits_and_does_nearly_as_much_as_the_best(
    rates: dict[int, float], peak_bytes: int, free_bytes: int
) -> None:
    tried: list[int] = []

    def measure(num_trials: int) -> Packed:
        tried.append(num_trials)
        return machine(rates, peak_bytes)(num_trials)

    measured = pack(measure, free_bytes)
    assert tried == [1, 2, 4, 8][: len(tried)]
    assert all(n * peak_bytes * (1 + HEAD_ROOM) <= free_bytes for n in tried[1:])
    if not measured:
        assert peak_bytes * (1 + HEAD_ROOM) > free_bytes
        return
    chosen = choose(measured)
    best = max(rates[n] for n in tried)
    assert rates[chosen] >= (1 - TOLERANCE) * best
    assert all(rates[n] < (1 - TOLERANCE) * best for n in tried if n < chosen)


@given(RATES, st.integers(1, 2**34), st.integers(1, 2**36), st.integers(1, 2**36))
def test_more_memory_never_means_fewer_trials_where_more_gain(
    rates: dict[int, float], peak_bytes: int, some: int, more: int
) -> None:
    rates = dict(zip(rates, sorted(rates.values()), strict=True))
    few, many = (pack(machine(rates, peak_bytes), some + extra) for extra in (0, more))
    assert len(few) <= len(many)
    if few:
        assert choose(few) <= choose(many)


@pytest.mark.parametrize(
    ("free_bytes", "tried"),
    [(480, [1, 2, 4]), (479, [1, 2]), (240, [1, 2]), (239, [1]), (120, [1]), (119, [])],
)
def test_trials_that_hold_100_bytes_need_120_each(free_bytes: int, tried: list[int]) -> None:
    measured = pack(machine({1: 1, 2: 2, 4: 4, 8: 8}, 100), free_bytes)
    assert [packed.num_trials for packed in measured] == tried


@pytest.mark.parametrize(
    ("rates", "wanted", "num_tried"),
    [
        ((100, 101, 102, 103), 1, 2),  # a model that fills the GPU
        ((100, 190, 350, 600), 8, 4),  # a small one
        ((100, 190, 192, 400), 2, 3),  # twice as many did not do more: no more were tried
        ((100, 60, 300, 300), 1, 2),
        ((100, 106, 107, 108), 2, 3),  # a gain of 6% is one
    ],
)
def test_the_fewest_trials_that_gain(rates: tuple[float, ...], wanted: int, num_tried: int) -> None:
    measured = pack(machine(dict(zip((1, 2, 4, 8), rates, strict=True))))
    assert (choose(measured), len(measured)) == (wanted, num_tried)


@pytest.mark.parametrize(("most", "tried"), [(1, [1]), (3, [1, 2]), (8, [1, 2, 4, 8])])
def test_no_more_are_tried_than_may_run(most: int, tried: list[int]) -> None:
    measured = pack(machine({1: 1, 2: 2, 4: 4, 8: 8}), most=most)
    assert [packed.num_trials for packed in measured] == tried


def test_trials_that_ran_out_of_memory_are_not_chosen() -> None:
    measured = pack(lambda n: None if n > 2 else Packed("a/b", n, n))
    assert choose(measured) == 2
    assert pack(lambda n: None) == []


def test_each_task_gets_the_share_that_it_wants() -> None:
    measured = [Packed("a/b", 1, 10), Packed("a/b", 2, 20), Packed("c/d", 1, 10, 300 * MIB)]
    assert trials_on_a_gpu(measured) == {"a/b": 2, "c/d": 1}
    told = " ".join(in_words(measured, "H, without MPS"))
    assert "a/b: examples/s of all (trials on a GPU): 10 (1), 20 (2)" in told
    assert "peak memory of a trial: not measured; so 0.5 of a GPU each trial, 2 on each" in told
    assert "peak memory of a trial: 300 MiB; so 1 of a GPU each trial, 1 on each" in told
    assert "take turns" in told
    assert "take turns" not in " ".join(in_words(measured, "H, MPS at /x"))
    assert in_words([], "H") == []


def test_a_plan_keeps_what_was_measured(tmp_path: Path) -> None:
    packing = (Packed("a/b", 1, 10.5, 300 * MIB), Packed("c/d", 2, 20.25, None))
    made = dataclasses.replace(plan(), packing=packing)
    made.write(tmp_path / "plan.toml")
    assert Plan.read(tmp_path / "plan.toml") == made


# ----------------------------------------------------------------- as it is asked for

QUICK = ("--plan", "--train-size", "640", "--epochs", "1", "--budget", "1", "--final-seeds", "1")


@pytest.mark.parametrize(
    ("options", "most", "share", "slots"),
    [
        ([], MAX_TRIALS_ON_A_GPU, "0.25 of a GPU each trial, 4 on each", 8),
        (["--max-concurrent", "5"], 2, "0.5 of a GPU each trial, 2 on each", 4),
        (["--max-concurrent", "1"], 1, "1 of a GPU each trial, 1 on each", 1),
        (["--cpus-per-trial", "0.5"], 2, "0.5 of a GPU each trial, 2 on each", 4),
    ],
)
def test_the_share_is_what_was_measured_and_the_plan_shows_it(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    most: int,
    share: str,
    slots: int,
) -> None:
    """On a machine of 2 CPUs and 2 logical GPUs."""

    def measured(task: Task, *arguments: object, num_threads: int) -> list[Packed]:
        assert arguments[-2:] == (2, most)
        assert task.name == "fashion_mnist_mini/cnn"
        rates = {1: 100, 2: 190, 4: 300, 8: 301}
        return [
            dataclasses.replace(each, task=task.name) for each in pack(machine(rates), most=most)
        ]

    monkeypatch.setattr("tune_adaptive.planning.prepare.measure_packing", measured)
    monkeypatch.setattr("tune_adaptive.signals.capacity.cpus_here", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run_search("--num-gpus", "2", "--gpus-per-trial", "auto", *options, *QUICK) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert share in told
    assert f"{slots} concurrent trials on logical GPUs" in told
    assert "packing of fashion_mnist_mini/cnn: examples/s of all (trials on a GPU): 100 (1)" in told
    assert "a GPU may want another share" in told


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--gpus-per-trial", "auto"], 3, "--gpus-per-trial auto: there is no GPU here"),
        (["--gpus-per-trial", "atuo"], 2, "--gpus-per-trial atuo: must be a number or TASK=NUMBER"),
        (
            ["--gpus-per-trial", "auto", "--num-gpus", "1", "--signals", "steady"],
            2,
            "--gpus-per-trial auto needs a clock",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run_search(*options, *QUICK) == code
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--gpus-per-trial", "fashion_mnist_mini/mlp=0.5", "--gpus-per-trial", "0.25"],
            [
                "0.25 of a GPU a trial, 4 concurrently",
                "0.5 of a GPU a trial, 2 concurrently",
                "4 concurrent trials",
            ],
        ),
        (
            ["--gpus-per-trial", "fashion_mnist_mini/mlp=0.5", "--gpus-per-trial", "auto"],
            ["packing of fashion_mnist_mini/cnn", "0.5 of a GPU a trial, 2 concurrently"],
        ),
        (
            ["--cpus-per-trial", "fashion_mnist_mini/mlp=2"],
            ["1 CPU and 1 of a GPU a trial, 1 concurrently", "2 CPUs and 1 of a GPU a trial"],
        ),
    ],
)
def test_a_task_may_have_another_share(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    told: list[str],
) -> None:
    def measured(task: Task, *arguments: object, num_threads: int) -> list[Packed]:
        assert task.name == "fashion_mnist_mini/cnn", "the other's share is given"
        return [Packed(task.name, 1, 100.0), Packed(task.name, 2, 190.0)]

    monkeypatch.setattr("tune_adaptive.planning.prepare.measure_packing", measured)
    monkeypatch.setattr("tune_adaptive.signals.capacity.cpus_here", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    tasks = ("--task", "fashion_mnist_mini/cnn", "--task", "fashion_mnist_mini/mlp")
    assert run_search("--num-gpus", "1", *tasks, *options, *QUICK) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(each in shown for each in told), shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus-per-trial", "fashion_mnist_mini/mlp=0.5"], "there is no such task here"),
        (["--cpus-per-trial", "fashion_mnist_mini/cn=1"], "did you mean"),
        (["--gpus-per-trial", "fashion_mnist_mini/cnn=2"], "must be in [0.01, 1], got 2.0"),
        (["--gpus-per-trial", "0.5", "--gpus-per-trial", "0.25"], "a number for all is given"),
        (["--gpus-per-trial", "auto", "--gpus-per-trial", "0.25"], "auto and 0.25: give one"),
        (["--cpus-per-trial", "auto"], "--cpus-per-trial auto: must be a number"),
        (["--cpus-per-trial", "a=1", "--cpus-per-trial", "a=2"], "a is given twice"),
    ],
)
def test_shares_of_tasks_are_checked(
    capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run_search("--num-gpus", "1", *options, *QUICK) == 2
    assert message in " ".join(capsys.readouterr().err.split())


# ------------------------------------------------------------------- in real processes


def on_the_cpu(task: Task, most: int) -> list[Packed]:
    cpu = torch.device("cpu")
    return measure_packing(task, {task.name: tiny_data()}, "fp32", cpu, 1, most, 1)


def elsewhere(data: Description, fault: Callable[[], None]) -> nn.Module:
    """Build a model here, and fail in a process that was started to measure it."""
    if multiprocessing.parent_process() is not None:
        fault()
    return linear(data)


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def no_table() -> None:
    raise RuntimeError("no such table")


def dies() -> None:
    os._exit(7)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        pytest.param(
            *(out_of_memory, EnvironmentFault, "tiny/linear: not one trial fits"),
            marks=pytest.mark.slow,
        ),
        (no_table, InputError, r"tiny/linear: .*test_packing.py:\d+: in no_table: .*no such table"),
        pytest.param(
            *(dies, EnvironmentFault, r"a process that trained it died \(exit code 7\)"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_goes_wrong_in_a_process_is_told(
    fault: Callable[[], None], error: type[Exception], message: str
) -> None:
    task = dataclasses.replace(TASK, build=partial(elsewhere, fault=fault))
    with pytest.raises(error, match=message):
        on_the_cpu(task, most=1)
    assert multiprocessing.active_children() == []


def test_a_task_that_cannot_be_sent_is_refused() -> None:
    task = dataclasses.replace(TASK, build=lambda data: linear(data))
    with pytest.raises(InputError, match="give the share as a number"):
        on_the_cpu(task, most=1)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_trials_are_measured_side_by_side_on_the_cpu() -> None:
    measured = on_the_cpu(TASK, most=2)
    assert [packed.num_trials for packed in measured] == [1, 2]
    assert all(packed.examples_per_s > 0 for packed in measured)
    assert all(packed.peak_bytes is None for packed in measured), "of a GPU, and there is none"
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_search_packs_as_it_measured(tmp_path: Path) -> None:
    """On logical GPUs, from the command line to the trials."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tune_adaptive.search", "--name", "packed"),
            *("--num-gpus", "1", "--gpus-per-trial", "auto", "--max-concurrent", "2"),
            *("--epochs", "1", "--budget", "1", "--final-seeds", "1", "--schedule", "step"),
            *("--train-size", "640"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    plan = Plan.read(tmp_path / "results" / "packed" / "plan.toml")
    assert [packed.num_trials for packed in plan.packing] == [1, 2]
    assert plan.tasks[0].gpus_per_trial == 1 / choose(plan.packing)
    assert plan.slots == choose(plan.packing)
    assert all(packed.peak_bytes is None for packed in plan.packing)
    assert "of a GPU each trial" in " ".join(done.stdout.split())


@pytest.mark.gpu
def test_on_a_gpu_memory_is_measured_and_the_choice_fits() -> None:
    device = torch.device("cuda", 0)
    task, data = make_task("fashion_mnist_mini/cnn"), load_fashion_mnist_mini()
    measured = measure_packing(task, {task.name: data}, "fp32", device, 1, 4, 1)
    total = torch.cuda.get_device_properties(device).total_memory
    resident = data.train.nbytes + data.validation.nbytes
    for packed in measured:
        assert packed.examples_per_s > 0
        assert packed.peak_bytes is not None
        assert resident < packed.peak_bytes < total
    assert choose(measured) * (measured[-1].peak_bytes or 0) * (1 + HEAD_ROOM) <= total


@pytest.mark.gpu
def test_on_a_gpu_a_trial_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**20, 2**40))
    with pytest.raises(EnvironmentFault, match="not one trial fits"):
        measure_packing(TASK, {TASK.name: tiny_data()}, "fp32", torch.device("cuda", 0), 1, 2, 1)


# --------------------------------------------------------------- the memory, with a fake GPU


class FakeGpu:
    """Processes that tell of a GPU of 1,000 MiB, 300 of them in use by others."""

    def __init__(self, warm: list[concurrency.Warm]) -> None:
        self.waiting: list[object] = [*warm]
        self.exitcode = 0

    def start(self) -> None: ...
    def join(self) -> None: ...
    def recv(self) -> object:
        return self.waiting.pop(0)

    def send(self, word: bool) -> None:
        self.waiting.append(concurrency.Rate(100.0))

    def close(self) -> None: ...


def test_peak_memory_has_the_context_and_the_data_of_other_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """200 MiB of tensors, a context of 150 MiB, and 40 MiB that will lie there besides."""
    gpus = [
        FakeGpu([concurrency.Warm(200 * MIB, 350 * MIB)]),
        FakeGpu([concurrency.Warm(210 * MIB, 0)]),
    ]

    class Begun(concurrency._ConcurrentTrials):
        def _start(self) -> None:
            gpu = gpus[len(self._processes)]
            self._processes.append((gpu, gpu))  # type: ignore[arg-type]

    trial = concurrency._trial(TASK, tiny_data(), "fp32", torch.device("cpu"), 1)
    with Begun(trial, free_bytes=700 * MIB) as begun:
        measure = concurrency._measure(begun, TASK.name, 1, others_bytes=40 * MIB)
        assert measure(1) == Packed(TASK.name, 1, 100.0, (350 + 40) * MIB)
        assert measure(2) == Packed(TASK.name, 2, 200.0, (350 + 40) * MIB)
        assert pack(measure, 700 * MIB) == [Packed(TASK.name, 1, 100.0, 390 * MIB)]


def test_gpus_that_are_only_declared_share_the_cpus_and_are_measured_at_once() -> None:
    class Begun(concurrency._ConcurrentTrials):
        def examples_per_s(self, num_processes: int) -> float:
            return 100.0 * num_processes

    trial = concurrency._trial(TASK, tiny_data(), "fp32", torch.device("cpu"), 1)
    measure = concurrency._measure(Begun(trial, None), TASK.name, 3, others_bytes=0)
    assert measure(2) == Packed(TASK.name, 2, 600.0, None)


def test_only_what_ended_in_the_window_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a process which goes on alone, while others have ended, does not look fast."""
    clock = iter([10.0, 11.0, 12.0, 12.9, 13.5])
    monkeypatch.setattr(concurrency.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(concurrency, "train", lambda run, material: iter(range(10)))
    data = tiny_data()
    sample = concurrency.Trial(
        TASK, data.describe(), data.train, data.validation, "fp32", 2, 1, False
    )
    material = Material(
        TASK, data.describe(), *(Split.of(part, torch.device("cpu")) for part in (data.train,) * 2)
    )
    rate = concurrency._train_for_a_window(sample, material)
    assert rate.examples_per_s == pytest.approx(3 * len(data.train) / 2.9)


def test_memory_is_measured_on_the_longest_texts() -> None:
    lengths = np.array([3, 9, 1, 7, 5, 2], dtype=np.int32)
    texts = Examples(np.zeros((6, 9), np.int32), np.array([0, 1] * 3), lengths)
    task = dataclasses.replace(TASK, batch_size=2)
    described = tiny_data().describe()
    trial = concurrency.Trial(task, described, texts, texts, "fp32", 2, 1, True)
    found = concurrency._longest(trial).lengths
    assert found is not None
    assert sorted(found) == [3, 5, 7, 9]


@pytest.mark.parametrize(
    ("pipes", "told"), [(None, "without MPS"), (Path("/x/mps"), "MPS at /x/mps")]
)
def test_the_plan_names_mps(monkeypatch: pytest.MonkeyPatch, pipes: Path | None, told: str) -> None:
    monkeypatch.setattr(planning, "mps_pipe_directory", lambda: pipes)
    measured = {"a/b": Measured("H", "fp32", 1.0, 1.0)}
    assert planning._device_in_words(measured, Capacity([NodeCapacity(2, 1)])) == f"H, {told}"
