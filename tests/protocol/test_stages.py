"""The stages on simulated runs: interrupted anywhere, they go on as if they had not been."""

import math
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.analysis.maker import TASK, Maker, epoch
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.analysis.history import Run
from tune_adaptive.errors import InputError, NoSuccessfulTrial, SearchStopped
from tune_adaptive.planning.prepare import Prepared
from tune_adaptive.protocol.run import Notes, hear_again
from tune_adaptive.protocol.run import run as run_again
from tune_adaptive.protocol.stages import Stages
from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.records.runs import EpochResult, RunSpec, Slowdown
from tune_adaptive.training.checkpoints import Checkpoint, CheckpointStore


class Killed(Exception):
    """The process ended, whatever it was doing."""


class Kept(CheckpointStore):
    """What was kept of runs: how many epochs, whole or not."""

    def __init__(self) -> None:
        self.num_epochs: dict[str, int] = {}

    def read(self, run: RunSpec) -> Checkpoint | None:
        kept = self.num_epochs.get(run.id)
        return None if kept is None else Checkpoint(run, kept, {})

    def remove(self, run_id: str) -> None:
        self.num_epochs.pop(run_id, None)

    def take_last_words(self, run_id: str) -> str:
        return ""


class Session:
    """One process that works on an experiment until it ends, or is killed after some events.

    Args:
        plan: Of the experiment.
        past: Rows of its ledger.
        kill_after: Rows after which it is killed.
        kept: Checkpoints; None keeps none.
        deaths: Share of epochs in which a worker dies.
    """

    def __init__(
        self,
        plan: Plan,
        past: list[ledger.Event],
        kill_after: float = math.inf,
        kept: Kept | None = None,
        deaths: float = 0.0,
    ) -> None:
        self.rows = list(past)
        self.kill_after = kill_after
        self.kept = kept
        self.deaths = deaths
        store = kept or Kept()
        notes = Notes(past, self.write)
        self.stages = Stages(plan, notes, lambda run, num: notes.kept(store, run, num))
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
                resumed = self.rows[-1]
                is_resumed = isinstance(resumed, ledger.RunResumed)
                running[run.id] = run, resumed.num_epochs if is_resumed else 0
            for run, num_done in list(running.values()):
                if luck(run.id, num_done, len(self.rows)) < self.deaths:
                    self.stages.failed(run, "the worker process died", transient=True)
                    del running[run.id]
                    continue
                if run.id.endswith("step-0003") and num_done == 1:
                    self.stages.failed(run, "ValueError: no such layer")
                    ended = True
                else:
                    ended = self.stages.heard(run, simulated(run, num_done + 1)) is not None
                if self.kept is not None and luck(run.id, num_done) < 0.6:
                    self.kept.num_epochs[run.id] = num_done  # in the middle of the next epoch
                running[run.id] = run, num_done + 1
                if ended:
                    del running[run.id]


def luck(*told: object) -> float:
    """A number in [0, 1) that depends on nothing else."""
    return zlib.crc32(repr(told).encode()) / 2**32


def simulated(run: RunSpec, number: int) -> EpochResult:
    """What a run's seed and configuration decide."""
    own = luck(run.configuration, run.seed, number)
    ended = number == run.num_epochs
    return replace(
        epoch(number, 0.5 + 0.4 * own, own if ended and run.open_test else None, at=float(number)),
        ended=ended,
        diverged=ended and own < 0.1,
    )


def work(
    plan: Plan,
    past: list[ledger.Event],
    slots: int,
    kill_after: float,
    kept: Kept | None = None,
    deaths: float = 0.0,
) -> list[ledger.Event]:
    """Return the ledger's rows after one more session."""
    session = None
    try:
        session = Session(plan, past, kill_after, kept, deaths)
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
    maker = Maker(tmp_path, budget=6.0, num_controls=1, num_final_seeds=2)
    return replace(maker.plan(), ablations=True, slowdown=Slowdown(2.0, 0.4))


def test_one_slot_ends_the_same_wherever_it_was_killed(tmp_path: Path, plan: Plan) -> None:
    whole = work(plan, [], 1, math.inf)
    expected = [told(run) for run in table(tmp_path / "whole", plan, whole).runs]
    assert {run.spec.stage for run in table(tmp_path / "whole", plan, whole).runs} == set(
        plan.stages
    )
    for number, kill_after in enumerate(range(1, len(whole), 13)):
        kept = Kept() if number % 2 else None
        rows = work(plan, work(plan, [], 1, kill_after, kept), 1, math.inf, kept)
        analysis = table(tmp_path / "cut", plan, rows)
        assert [told(run) for run in analysis.runs] == expected
        assert analysis.history.num_sessions == 2


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("slots", [2, 3])
def test_killed_again_and_again_every_rule_is_kept(
    tmp_path: Path, plan: Plan, slots: int, keeps: bool
) -> None:
    rows: list[ledger.Event] = []
    kept = Kept() if keeps else None
    for kill_after in (*range(9, 400, 17), math.inf):
        if not rows or not isinstance(rows[-1], ledger.Closed):
            rows = work(plan, rows, slots, kill_after, kept, deaths=0.02)
    analysis = table(tmp_path / "cut", plan, rows)
    assert analysis.history.num_sessions > 5
    assert any(isinstance(row, ledger.RunInterrupted) for row in rows)
    assert any(run.void_epochs for run in analysis.runs)
    went_on = [row.num_epochs for row in rows if isinstance(row, ledger.RunResumed)]
    assert any(went_on) == keeps
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


def test_workers_that_die_change_nothing_in_one_slot(tmp_path: Path, plan: Plan) -> None:
    whole = table(tmp_path / "whole", plan, work(plan, [], 1, math.inf))
    for kept in (None, Kept()):
        rows = work(plan, [], 1, math.inf, kept, deaths=0.05)
        assert sum(isinstance(row, ledger.RunInterrupted) for row in rows) > 5
        analysis = table(tmp_path / "cut", plan, rows)
        assert [told(run) for run in analysis.runs] == [told(run) for run in whole.runs]
        assert [check.finding for check in analysis.breaches] == []


def test_a_run_is_tried_again_as_often_as_planned_and_then_has_failed(plan: Plan) -> None:
    session = Session(replace(plan, max_retries=2), [])
    for _ in range(3):
        run = session.stages.next()
        assert run is not None and run.id.endswith("0000")
        session.stages.failed(run, "the worker process died", transient=True)
    assert isinstance(session.rows[-1], ledger.RunEnded)
    following = session.stages.next()
    assert following is not None and following.id != run.id


def fail(session: Session, message: str) -> None:
    run = session.stages.next()
    assert run is not None
    session.stages.failed(run, message)


def test_five_that_fail_alike_stop_the_search_and_a_resume_goes_on_after_them(plan: Plan) -> None:
    session = Session(plan, [])
    for number in range(3):
        fail(session, f"trace\nRuntimeError: no memory at 0x{number}")
    fail(session, "ValueError: another")
    for number in range(4):
        fail(session, f"trace\nRuntimeError: no memory at 0x{number}")
    with pytest.raises(SearchStopped, match=r"5 runs failed alike.*no memory at 0x9"):
        fail(session, "trace\nRuntimeError: no memory at 0x9")
    again = Session(plan, session.rows)
    assert not again.stages.at_work
    assert len([row for row in again.rows if isinstance(row, ledger.RunEnded)]) == 9


@pytest.mark.parametrize("num_that_end", [0, 1])
def test_final_runs_that_all_fail_are_no_success(
    tmp_path: Path, plan: Plan, num_that_end: int
) -> None:
    """Exit code 5 with the last failure; one that trained to its end is a result."""
    session, left = Session(plan, []), num_that_end
    while (run := session.stages.next()) is not None:
        is_compared = run.stage == "final" and run.role != "canary"
        if is_compared and not left:
            words = f"own.py:3: in forward: {chr(65 + len(session.rows) % 7)}"  # never five alike
            session.stages.failed(run, f"Traceback\n{words}")
            continue
        left -= is_compared
        for number in range(1, run.num_epochs + 1):
            result = replace(simulated(run, number), diverged=False)
            if session.stages.heard(run, result) is not None:
                break
    assert session.stages.nothing_to_compare == (num_that_end == 0)
    begun = {row.stage for row in session.rows if isinstance(row, ledger.StageStarted)}
    assert ("ablation" in begun) == (num_that_end == 1)
    if num_that_end == 0:
        table(tmp_path / "failed", plan, session.rows)
        experiment = Prepared(plan, tmp_path / "failed", {}, {}, past=session.rows)
        with pytest.raises(
            NoSuccessfulTrial, match=r"all final runs failed.*own\.py:3: in forward"
        ):
            run_again(experiment)


def test_a_checkpoint_that_the_ledger_does_not_reach_is_not_used(plan: Plan) -> None:
    kept = Kept()
    rows = work(plan, [], 1, 4)
    [begun] = [row.run.id for row in rows if isinstance(row, ledger.RunStarted)]
    kept.num_epochs[begun] = 2  # the ledger has one epoch of it
    assert [row.result.epoch for row in rows if isinstance(row, ledger.EpochDone)] == [1]
    rows = work(plan, rows, 1, 6, kept)
    assert [row.num_epochs for row in rows if isinstance(row, ledger.RunResumed)] == [0]
    assert begun not in kept.num_epochs


def test_nothing_is_left_to_do_where_only_the_last_row_is_missing(plan: Plan) -> None:
    rows = work(plan, [], 1, math.inf)
    assert isinstance(rows[-1], ledger.Closed)
    assert [type(row) for row in rows[-4:-1]] == [
        ledger.EpochDone,
        ledger.TestOpened,
        ledger.RunEnded,
    ]
    for missing in (1, 2, 3):  # what follows from the last epoch is not trained again
        assert not Session(plan, rows[:-missing]).stages.has_work()
    assert Session(plan, rows[:-4]).stages.has_work()


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
