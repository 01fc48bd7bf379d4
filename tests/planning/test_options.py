"""What a person asks for: durations, contention, presets, and a horizon that a budget pays for."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import run_search
from tests.ray_backend.test_engine import plan
from tests.training.test_loop import TASK
from tune_adaptive.errors import InputError
from tune_adaptive.planning import loading
from tune_adaptive.planning.options import Request, read_request
from tune_adaptive.planning.parsing import read_duration, read_slowdown
from tune_adaptive.planning.prepare import TIME_RESERVE, within_time
from tune_adaptive.planning.presets import PRESETS
from tune_adaptive.records.plan import MAX_GROWTH, NAME
from tune_adaptive.records.runs import Slowdown, file_name
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.tasks import Task, unknown_task


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 28800), ("1h30m", 5400), ("90m", 5400), ("45s", 45), ("0.5h", 1800)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert read_duration(text, "--time-budget") == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "8 h", "-8h", "30m1h", "8h\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="must be like 8h"):
        read_duration(text, "--time-budget")


def test_contention_is_read() -> None:
    assert read_slowdown("2x@40%", "--contention") == Slowdown(2.0, 0.4)
    for text in ("2x", "1x@40%", "0.5x@40%", "2x@100%", "2@40"):
        with pytest.raises(InputError, match="must be like 2x@40%"):
            read_slowdown(text, "--contention")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_can_be_run(preset: str) -> None:
    own = read_request({"preset": preset})
    assert [unknown_task(name) for name in own.tasks] == [None] * len(own.tasks)
    assert set(own.schedules) <= set(SCHEDULES)
    assert len(set(own.schedules)) == len(own.schedules)
    assert "adaptive" in own.schedules


@given(st.floats(30, 5000), st.floats(0.01, 2), st.integers(1, 40))
def test_the_horizon_is_the_longest_that_the_budget_pays_for(
    budget_s: float, epoch_s: float, num_epochs: int
) -> None:
    [task] = plan().tasks
    task = replace(task, num_epochs=num_epochs, epoch_s=epoch_s, loaded_epoch_s=epoch_s)
    whole = replace(plan(), tasks=(task,))

    def estimated_s(horizon: int) -> float:
        return replace(whole, tasks=(replace(task, num_epochs=horizon),)).estimated_s()

    try:
        chosen = within_time(whole, budget_s)
    except InputError as error:
        assert "one epoch a run takes" in str(error)
        assert estimated_s(1) > TIME_RESERVE * budget_s
        return
    horizon = chosen.tasks[0].num_epochs
    assert chosen.estimated_s() <= TIME_RESERVE * budget_s
    longest = MAX_GROWTH * num_epochs
    assert horizon == longest or estimated_s(horizon + 1) > TIME_RESERVE * budget_s


def made_as_named(names: tuple[str, ...], options: object) -> list[Task]:
    return [replace(TASK, name=name) for name in names]


def test_a_long_time_budget_makes_runs_longer_than_the_tasks_own() -> None:
    [task] = plan().tasks
    tasks = (task, replace(task, name="tiny/other", num_epochs=12))
    whole = replace(plan(), tasks=tasks)
    longer = within_time(whole, 2 * whole.estimated_s() / TIME_RESERVE)
    assert [each.num_epochs for each in longer.tasks] > [each.num_epochs for each in tasks]
    longest = within_time(whole, 1e9)
    assert [each.num_epochs for each in longest.tasks] == [MAX_GROWTH * 3, MAX_GROWTH * 12]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--preset", "nigth"],
            "got 'nigth'; did you mean 'night'?",
        ),
        (["--studied", "cosine"], "--studied cosine: is not among the schedules"),
        (["--studied", "stap"], "is not among the schedules; did you mean 'step'?"),
        (["--time-budget", "2 hours"], "must be like 8h"),
        (["--time-budget", "2h", "--epochs", "3"], "--time-budget solves for --epochs"),
        (["--time-budget", "2h", "--signals", "steady"], "--signals steady has none"),
        (["--contention", "fast"], "must be like 2x@40%"),
        (["--time-budget", "1s"], "one epoch a run takes"),
    ],
)
def test_what_cannot_be_asked_for(
    capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run_search("--plan", *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["A/b", "a/b"], "differ in case only"),
        (["a-B/c", "a-b/c"], "differ in case only"),
        (["tiny"], "must be like dataset/model"),
        (["a/b/c"], "must be like dataset/model"),
        (["a/.b"], "must be like dataset/model"),
        ([f"a{'-' * 63}/b{'-' * 9}"], "too long for the names of files: 147 characters of 132"),
    ],
)
def test_tasks_that_files_cannot_tell_apart_are_refused(
    monkeypatch: pytest.MonkeyPatch, names: list[str], message: str
) -> None:
    monkeypatch.setattr(loading, "make_tasks", made_as_named)
    request = Request(tasks=tuple(names), schedules=("step",), space_dir=Path())
    with pytest.raises(InputError, match=message):
        loading.make_named_tasks(request)


def test_tasks_whose_names_differ_in_where_a_dash_is_are_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``a-b/c`` and ``a/b-c`` had the same run ids and folders."""
    monkeypatch.setattr(loading, "make_tasks", made_as_named)
    names = ("a-b/c", "a/b-c", "a/b--c", "a-/b-c")
    made = loading.make_named_tasks(Request(names, schedules=("step",), space_dir=Path()))
    assert len({file_name(name, "step") for name in made}) == len(names)


word = st.from_regex(NAME, fullmatch=True).filter(lambda text: len(text) < 9)


@given(st.lists(word, min_size=3, max_size=3), st.lists(word, min_size=3, max_size=3))
def test_no_two_arms_share_the_name_of_a_file(one: list[str], other: list[str]) -> None:
    names = [file_name(f"{dataset}/{model}", schedule) for dataset, model, schedule in (one, other)]
    assert (names[0] == names[1]) == (one == other)
