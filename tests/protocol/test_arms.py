"""Budgets, stopping and what Optuna is told, on simulated runs."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from tune_adaptive.protocol.arms import Arm, Arms
from tune_adaptive.protocol.asha import first_rung
from tune_adaptive.records.metric import Metric
from tune_adaptive.records.runs import Configuration, EpochResult, RunSpec, Status
from tune_adaptive.records.space_files import space_from_dict

SPACE = space_from_dict(
    {"lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True, "default": 1e-3}}, "test"
)


def arm(schedule: str = "step", num_epochs: int = 6, budget: float = 4.0) -> Arm:
    template = RunSpec("", "search", "a/b", Configuration(schedule), 0, num_epochs)
    return Arm(template, SPACE, budget * num_epochs, seeds=range(100), sampler_seed=0)


def result(epoch: int, num_epochs: int, value: float, diverged: bool = False) -> EpochResult:
    return EpochResult(
        epoch=epoch,
        epoch_equivalents=float(epoch),
        num_steps=epoch,
        planned_steps=num_epochs,
        train_loss=1.0,
        val_loss=1.0,
        val_metric=value,
        lrs=(),
        lr_steps=(),
        progress=epoch / num_epochs,
        train_s=1.0,
        eval_s=0.0,
        ended_at=0.0,
        ended=diverged or epoch == num_epochs,
        diverged=diverged,
    )


def drain(arms: Arms, slots: int, value_of: Callable[[RunSpec], float]) -> list[tuple[str, Status]]:
    """Run everything, one epoch of each slot in turn; return how each run ended."""
    running: dict[str, tuple[RunSpec, int]] = {}
    ends = []
    for _ in range(10_000):
        while len(running) < slots and (run := arms.next()) is not None:
            running[run.id] = run, 0
        if arms.exhausted:
            return ends
        assert running, "nothing runs, yet the arms are not exhausted"
        for run, epoch in list(running.values()):
            value = value_of(run)
            outcome = result(epoch + 1, run.num_epochs, value, diverged=math.isnan(value))
            status = arms.heard(run, outcome)
            if status is None:
                running[run.id] = run, epoch + 1
            else:
                del running[run.id]
                ends.append((run.id, status))
    raise AssertionError("the search does not end")


def test_optuna_hears_nothing_of_an_attempt_that_was_thrown_away() -> None:
    own = arm()
    run = own.start()
    for epoch in range(1, 6):
        own.heard(run, result(epoch, 6, 0.9))
    own.resumed(run, 0)
    assert own.spent == 0
    for epoch in range(1, 7):
        own.heard(run, result(epoch, 6, 0.5))
    [trial] = own.study.trials
    assert trial.intermediate_values == {epoch: 0.5 for epoch in range(1, 7)}
    assert (trial.value, own.spent) == (0.5, 6)


def test_of_a_run_that_goes_on_later_epochs_alone_are_forgotten() -> None:
    own = arm()
    run = own.start()
    for epoch in range(1, 4):
        own.heard(run, result(epoch, 6, 0.9))
    own.resumed(run, 2)
    assert own.spent == 2
    for epoch in range(3, 7):
        own.heard(run, result(epoch, 6, 0.5))
    [trial] = own.study.trials
    assert trial.intermediate_values == {1: 0.9, 2: 0.9, 3: 0.5, 4: 0.5, 5: 0.5, 6: 0.5}
    assert own.spent == 6


@given(
    st.integers(1, 12),
    st.floats(1, 6),
    st.integers(1, 5),
    st.lists(st.floats(0, 1) | st.just(math.nan), min_size=60, max_size=60),
)
def test_every_arm_spends_its_budget_and_no_more(
    num_epochs: int, budget: float, slots: int, values: list[float]
) -> None:
    made = [arm(schedule, num_epochs, budget) for schedule in ("step", "adaptive", "exponential")]
    drain(Arms(made), slots, lambda run: values[int(run.id[-4:]) % 60])
    for each in made:
        assert each.budget - first_rung(num_epochs) <= each.spent <= each.budget + 1e-9
        assert not any(trial.state == TrialState.RUNNING for trial in each.study.trials)


def test_the_first_trial_is_the_defaults() -> None:
    run = arm().start()
    assert run.configuration.recipe.lr == 1e-3
    assert run.id == "search-a-b-step-0000"


def test_only_full_runs_are_told_complete() -> None:
    one = arm(budget=4)
    drain(Arms([one]), 1, lambda run: 1.0 - int(run.id[-4:]) / 100)
    for trial in one.study.trials:
        epochs = trial.user_attrs["epoch_equivalents"]
        assert trial.state == (TrialState.COMPLETE if epochs == 6 else TrialState.PRUNED)
        assert max(trial.intermediate_values) == epochs
    assert {trial.state for trial in one.study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert [candidate.score for candidate in one.completed] == [1.0]


def test_a_trial_that_the_budget_ends_is_told_pruned() -> None:
    one = arm(num_epochs=6, budget=1.5)
    ends = drain(Arms([one]), 1, lambda run: int(run.id[-4:]) / 100)
    assert [status for _, status in ends] == ["completed", "stopped"]
    assert one.spent == 9
    assert one.study.trials[1].state == TrialState.PRUNED
    assert max(one.study.trials[1].intermediate_values) == 3


def test_what_early_stopping_releases_goes_to_the_other_runs() -> None:
    one = arm(num_epochs=6, budget=2)
    first, second = one.start(), one.start()
    for epoch in (1, 2):
        one.heard(first, result(epoch, 6, 0.9))
        one.heard(second, result(epoch, 6, 0.1))  # stopped at the rung: 4 of its 6 are free
    assert one.num_running == 1
    assert one.budget - one.committed == 4
    third = one.start()
    assert one.committed == 12
    for epoch in range(3, 7):
        one.heard(first, result(epoch, 6, 0.9))
    ends = [one.heard(third, result(epoch, 6, 1.0)) for epoch in range(1, 5)]
    assert ends == [None, None, None, "stopped"]
    assert one.spent == 12


def test_a_diverged_run_is_pruned_with_the_worst_accuracy_and_counts_its_epochs() -> None:
    one = arm()
    run = one.start()
    one.heard(run, result(1, 6, 0.9))
    one.heard(run, result(2, 6, 0.9))
    assert one.heard(run, result(3, 6, 0.5, diverged=True)) == "diverged"
    [trial] = one.study.trials
    assert (trial.state, trial.value) == (TrialState.PRUNED, 0.0)
    assert trial.user_attrs["epoch_equivalents"] == one.spent == 3
    assert one.completed == []


def test_runs_that_diverge_do_not_close_their_arm_and_failures_do() -> None:
    one = arm(budget=100)
    for _ in range(12):
        assert one.can_start
        one.heard(one.start(), result(1, 6, 0.5, diverged=True))
    for _ in range(4):
        one.failed(one.start())
    one.heard(one.start(), result(1, 6, 0.5, diverged=True))  # not a failure: the count begins anew
    for _ in range(5):
        assert one.can_start
        one.failed(one.start())
    assert not one.can_start


@pytest.mark.parametrize("late", [False, True])
def test_tpe_ranks_what_diverged_behind_all_that_was_stopped(late: bool) -> None:
    """Whenever it diverged, and however good it had been until then."""
    from optuna.samplers._tpe.sampler import _split_pruned_trials

    one = arm(budget=100)
    good, stopped = one.start(), one.start()
    for epoch in range(1, 3):
        one.heard(good, result(epoch, 6, 0.5))
    for epoch in range(1, 3):
        one.heard(stopped, result(epoch, 6, 0.4))
    third = one.start()
    ends = [one.heard(third, result(epoch, 6, 0.01)) for epoch in range(1, 3)]
    assert ends[-1] == "stopped"
    diverging = one.start()
    for epoch in range(1, 5 if late else 1):
        one.heard(diverging, result(epoch, 6, 0.99))
    one.heard(diverging, result(5 if late else 1, 6, 0.99, diverged=True))
    pruned = [trial for trial in one.study.trials if trial.state == TrialState.PRUNED]
    assert len(pruned) >= 2
    _, behind = _split_pruned_trials(pruned, one.study, len(pruned) - 1)
    assert [trial.user_attrs["run_id"] for trial in behind] == [diverging.id]


def test_tpe_keeps_away_from_where_runs_diverge() -> None:
    """Above lr 1e-3 all diverge; told FAIL, TPE would not know."""
    one = arm(budget=40)

    def value_of(run: RunSpec) -> float:
        return math.nan if run.configuration.recipe.lr > 1e-3 else 0.5

    drain(Arms([one]), 1, value_of)
    sampled = [trial.params["lr"] > 1e-3 for trial in one.study.trials[6:]]
    assert len(sampled) > 20
    assert sum(sampled[-20:]) < 5


def test_an_arm_that_fails_five_times_in_a_row_is_closed() -> None:
    one = arm(budget=100)
    for _ in range(5):
        assert one.can_start
        one.failed(one.start())
    assert not one.can_start
    assert Arms([one]).exhausted


def test_arms_take_turns_and_share_their_seeds() -> None:
    arms = Arms([arm("step"), arm("adaptive"), arm("exponential")])
    runs = [arms.next() for _ in range(6)]
    assert [run.arm[1] for run in runs if run] == ["step", "adaptive", "exponential"] * 2
    assert [run.seed for run in runs if run] == [0, 0, 0, 1, 1, 1]


def test_tasks_take_turns_only_where_workers_serve_them_all() -> None:
    def made() -> list[Arm]:
        arms = [arm("step"), arm("step")]
        arms[1].template = replace(arms[1].template, task="other/linear")
        return arms

    beside, after = Arms(made()), Arms(made(), one_by_one=True)
    first = made()[0].template.task
    assert [run.task for _ in range(4) if (run := beside.next())] == [first, "other/linear"] * 2
    order = []
    while run := after.next():
        order.append(run.task)
        after.failed(run, "")
    assert order == sorted(order, key=lambda task: task != first)
    assert set(order) == {first, "other/linear"}


def test_no_more_runs_of_a_task_start_than_fit() -> None:
    arms = Arms([arm("step"), arm("adaptive")], slots={"a/b": 3})
    runs = [arms.next() for _ in range(5)]
    assert [run is not None for run in runs] == [True] * 3 + [False] * 2
    assert runs[0] is not None
    arms.failed(runs[0], "")
    assert arms.next() is not None
    assert not arms.exhausted


def test_stopping_is_decided_within_the_arm_only() -> None:
    weak, strong = arm("step"), arm("adaptive")
    for each, value in ((strong, 0.9), (weak, 0.1)):
        run = each.start()
        assert [each.heard(run, result(epoch, 6, value)) for epoch in (1, 2, 3)] == [None] * 3


def test_what_an_interrupted_search_leaves_is_not_running_for_ever(tmp_path: Path) -> None:
    one = arm()
    one.start()
    Arms([one]).save_studies(tmp_path / "studies.db")
    assert [trial.state for trial in one.study.trials] == [TrialState.FAIL]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_studies_are_saved_with_their_trials(tmp_path: Path) -> None:
    arms = [arm("step"), arm("adaptive")]
    drain(both := Arms(arms), 2, lambda run: int(run.id[-4:]) / 100)
    both.save_studies(tmp_path / "studies.db")
    for each in arms:
        loaded = optuna.load_study(
            study_name=each.study.study_name, storage=f"sqlite:///{tmp_path}/studies.db"
        )
        assert [(t.state, t.params) for t in loaded.trials] == [
            (t.state, t.params) for t in each.study.trials
        ]
        loaded._storage.remove_session()


@pytest.mark.parametrize("diverges", [False, True])
def test_an_arm_goes_the_same_way_by_what_is_right_and_by_what_is_wrong(diverges: bool) -> None:
    """Stopping, candidates and what TPE proposes are the same for x and for the error 1 - x."""

    def value_of(run: RunSpec) -> float:
        return 1 / (1 + abs(math.log10(run.configuration.recipe.lr) + 3))

    right, wrong = arm(budget=8.0), arm(budget=8.0)
    wrong = Arm(
        *(wrong.template, wrong.space, wrong.budget, wrong.seeds, 0),
        metric=Metric("error", greater_is_better=False),
    )
    ends = []
    for each, sign in ((right, 1.0), (wrong, -1.0)):
        runs: list[tuple[object, ...]] = []
        while each.can_start:
            run = each.start()
            value = value_of(run) if sign > 0 else 1 - value_of(run)
            status = None
            for epoch in range(1, 7):
                is_last = diverges and epoch == 2 and run.number in (1, 4)
                status = each.heard(run, result(epoch, 6, value, diverged=is_last))
                if status is not None:
                    break
            runs.append((run.configuration, status))
        ends.append(runs)
    assert ends[0] == ends[1]
    assert {status for _, status in ends[0]} >= {"completed", "stopped"}
    assert wrong.study.direction.name == "MINIMIZE"
    arms = [Arms([each]).candidates(each.template.arm, 2) for each in (right, wrong)]
    best, same = ([candidate.run.id for candidate in own] for own in arms)
    assert best == same
