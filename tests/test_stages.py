"""The stages on simulated runs: interrupted anywhere, they go on as if they had not been."""

import math
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.analysis.maker import TASK, Maker, epoch
from tune_adaptive import ledger
from tune_adaptive.analysis import Analysis
from tune_adaptive.analysis.history import Run
from tune_adaptive.errors import InputError
from tune_adaptive.plan import Plan
from tune_adaptive.protocol import Notes, hear_again
from tune_adaptive.runs import EpochResult, RunSpec, Slowdown
from tune_adaptive.stages import Stages


class Killed(Exception):
    """The process ended, whatever it was doing."""


class Session:
    """One process that works on an experiment until it ends, or is killed after some events."""

    def __init__(self, plan: Plan, past: list[ledger.Event], kill_after: float = math.inf) -> None:
        self.rows = list(past)
        self.kill_after = kill_after
        notes = Notes(past, self.write)
        self.stages = Stages(plan, notes)
        hear_again(past, self.stages, notes)
        self.write(ledger.Opened(0.0, self.sha256))

    sha256 = ""

    def write(self, event: ledger.Event) -> None:
        if len(self.rows) >= self.kill_after:
            raise Killed
        self.rows.append(event)

    def work(self, slots: int) -> None:
        running: dict[str, tuple[RunSpec, int]] = {}
        while not self.stages.exhausted:
            while len(running) < slots and (run := self.stages.next()) is not None:
                running[run.id] = run, 0
            for run, num_done in list(running.values()):
                if run.id.endswith("step-0003") and num_done == 1:
                    self.stages.failed(run, "OSError: gone")
                    ended = True
                else:
                    ended = self.stages.heard(run, simulated(run, num_done + 1)) is not None
                running[run.id] = run, num_done + 1
                if ended:
                    del running[run.id]


def simulated(run: RunSpec, number: int) -> EpochResult:
    """What a run's seed and configuration decide."""
    luck = zlib.crc32(repr((run.configuration, run.seed, number)).encode()) / 2**32
    ended = number == run.num_epochs
    return replace(
        epoch(
            number, 0.5 + 0.4 * luck, luck if ended and run.open_test else None, at=float(number)
        ),
        ended=ended,
        diverged=ended and luck < 0.1,
    )


def work(plan: Plan, past: list[ledger.Event], slots: int, kill_after: float) -> list[ledger.Event]:
    """Return the ledger's rows after one more session."""
    session = None
    try:
        session = Session(plan, past, kill_after)
        session.work(slots)
        session.write(ledger.Closed(session.stages.num_started, 0.0))
    except Killed:
        pass
    return past if session is None else session.rows


def table(folder: Path, plan: Plan, rows: list[ledger.Event]) -> Analysis:
    folder.mkdir(exist_ok=True)
    sha256 = plan.write(folder / "plan.toml")
    (folder / "ledger.jsonl").unlink(missing_ok=True)
    with ledger.Ledger(folder / "ledger.jsonl") as file:
        for row in rows:
            file.append(replace(row, plan_sha256=sha256) if isinstance(row, ledger.Opened) else row)
    return Analysis(folder)


def told(run: Run) -> object:
    return run.spec, [replace(e, ended_at=0.0) for e in run.epochs], run.status, run.message


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    maker = Maker(tmp_path, budget=6.0, num_witnesses=1, num_final_seeds=2)
    return replace(maker.plan(), ablations=True, slowdown=Slowdown(2.0, 0.4))


def test_one_slot_ends_the_same_wherever_it_was_killed(tmp_path: Path, plan: Plan) -> None:
    whole = work(plan, [], 1, math.inf)
    expected = [told(run) for run in table(tmp_path / "whole", plan, whole).runs]
    assert {run.spec.stage for run in table(tmp_path / "whole", plan, whole).runs} == set(
        plan.stages
    )
    for kill_after in range(1, len(whole), 5):
        rows = work(plan, work(plan, [], 1, kill_after), 1, math.inf)
        analysis = table(tmp_path / "cut", plan, rows)
        assert [told(run) for run in analysis.runs] == expected
        assert analysis.history.num_sessions == 2


@pytest.mark.parametrize("slots", [2, 3])
def test_killed_again_and_again_every_rule_is_kept(tmp_path: Path, plan: Plan, slots: int) -> None:
    rows: list[ledger.Event] = []
    for kill_after in range(9, 400, 17):
        rows = work(plan, rows, slots, kill_after)
    rows = work(plan, rows, slots, math.inf)
    analysis = table(tmp_path / "cut", plan, rows)
    assert analysis.history.num_sessions > 5
    assert any(run.void_epochs for run in analysis.runs)
    assert [check.finding for check in analysis.breaches] == []
    [alone] = [c for c in analysis.checks if c.rule == "Final runs had their device to themselves"]
    assert alone.ok, alone.finding
    for schedule in plan.schedules:
        trials = analysis.history.of("search", TASK, schedule)
        assert sum(run.epoch_equivalents for run in trials) <= 6 * 3
        assert [run.spec.id[-4:] for run in trials] == [f"{n:04d}" for n in range(len(trials))]


def test_canaries_run_first_in_the_middle_and_last(plan: Plan) -> None:
    [task] = plan.tasks
    plan = replace(plan, tasks=(task, replace(task, name="tiny/other")), slowdown=None)
    rows = work(replace(plan, ablations=False), [], 2, math.inf)
    roles = [r.run.role for r in rows if isinstance(r, ledger.RunStarted) if r.run.stage == "final"]
    places = [place for place, role in enumerate(roles) if role == "canary"]
    middle = (len(roles) - 6) // 2 + 2
    assert places == [0, 1, middle, middle + 1, len(roles) - 2, len(roles) - 1]


def test_a_run_that_was_at_work_begins_anew_before_anything_else(plan: Plan) -> None:
    rows = work(plan, [], 2, 7)
    begun = [row.run.id for row in rows if isinstance(row, ledger.RunStarted)]
    rows = work(plan, rows, 2, 11)
    later = [row for row in rows[7:] if not isinstance(row, ledger.Opened)]
    resumed = [row.run_id for row in later if isinstance(row, ledger.RunResumed)]
    assert resumed == begun
    assert later[: len(resumed)] == [row for row in later if isinstance(row, ledger.RunResumed)]


def test_a_ledger_of_another_plan_is_not_gone_on_with(plan: Plan) -> None:
    rows = work(plan, [], 1, 40)
    with pytest.raises(InputError, match="cannot be resumed: its plan was edited"):
        Session(replace(plan, seed=1), rows)


@pytest.mark.parametrize("kind", [ledger.TestOpened, ledger.EpochDone, ledger.RunEnded])
def test_a_row_that_nothing_leads_to_is_not_gone_on_with(plan: Plan, kind: type) -> None:
    rows = work(plan, [], 1, math.inf)
    [first, *_] = [n for n, row in enumerate(rows) if isinstance(row, kind)]
    planted = replace(rows[first], run_id="search-tiny-linear-step-0001")  # type: ignore[type-var]
    with pytest.raises(InputError, match="cannot be resumed"):
        Session(plan, [*rows[:9], planted, *rows[9:30]])


def test_no_study_is_left_with_a_running_trial(tmp_path: Path, plan: Plan) -> None:
    import optuna

    for kill_after in (30, math.inf):
        session = Session(plan, work(plan, [], 2, kill_after))
        session.stages.save_studies(tmp_path / "studies.db")
        storage = f"sqlite:///{tmp_path / 'studies.db'}"
        for summary in optuna.get_all_study_summaries(storage):
            study = optuna.load_study(study_name=summary.study_name, storage=storage)
            assert not any(t.state == optuna.trial.TrialState.RUNNING for t in study.trials)
