"""TensorBoard, MLflow and W&B hear what the ledger tells."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tune_adaptive import ledger, trackers
from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.plan import Plan
from tune_adaptive.runs import EpochResult, RunSpec, Status
from tune_adaptive.trackers import Tracking, check_trackers


def tell(finished: Path, asked: str, folder: Path, upto: int | None = None) -> list[ledger.Event]:
    """Let a tracker hear a finished experiment, as if it ran now."""
    events = ledger.read(finished / "ledger.jsonl")[:upto]
    with Tracking([asked], Plan.read(finished / "plan.toml"), folder) as tracking:
        for event in events:
            tracking(event)
    return events


def epochs_of(events: list[ledger.Event]) -> dict[str, list[EpochResult]]:
    epochs: dict[str, list[EpochResult]] = {}
    for event in events:
        if isinstance(event, ledger.EpochDone):
            epochs.setdefault(event.run_id, []).append(event.result)
    return epochs


def test_tensorboard_reads_every_curve_of_every_run(finished: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    epochs = epochs_of(tell(finished, "tensorboard", tmp_path))
    folders = {path.name: path for path in (tmp_path / "tensorboard").iterdir()}
    assert set(folders) == set(epochs)
    for run_id in list(epochs)[:3] + list(epochs)[-3:]:
        read = EventAccumulator(str(folders[run_id]))
        read.Reload()
        points = read.Scalars("validation/accuracy")
        assert [point.step for point in points] == [each.epoch for each in epochs[run_id]]
        assert [point.value for point in points] == pytest.approx(
            [each.val_accuracy for each in epochs[run_id]]
        )
        assert read.Scalars("lr")[-1].value == pytest.approx(epochs[run_id][-1].lrs[-1])
        assert read.Scalars("examples_per_s")[0].value > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy
def test_mlflow_keeps_runs_in_a_file_and_finds_them_again(finished: Path, tmp_path: Path) -> None:
    """An SQLite store; the first half of the events by one process, all of them by the next."""
    from mlflow import MlflowClient

    tell(finished, "mlflow", tmp_path, upto=30)
    events = tell(finished, "mlflow", tmp_path)
    epochs = epochs_of(events)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert Counter(run.data.tags["run_id"] for run in runs) == Counter(list(epochs))
    for run in runs:
        last = epochs[run.data.tags["run_id"]][-1]
        assert run.data.metrics["validation/accuracy"] == pytest.approx(last.val_accuracy)
        assert run.info.status in ("FINISHED", "KILLED")
        assert float(run.data.params["lr"]) > 0
        assert run.data.tags["schedule"] in ("adaptive", "step", "exponential", "constant")


@pytest.mark.slow
def test_wandb_writes_runs_offline(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    events = tell(finished, "wandb:project", tmp_path, upto=30)
    begun = [e.run.id for e in events if isinstance(e, ledger.RunStarted)]
    kept = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(kept) == len(begun)
    assert all(any(f"project-{run_id}" in path.name for path in kept) for run_id in begun)
    assert all(path.stat().st_size > 0 for path in kept)


class Heard:
    """A tracker that remembers, and fails when it is told to."""

    def __init__(self, plan: Plan, folder: Path, where: str) -> None:
        self.words: list[str] = []
        self.fails_at = int(where or 10**9)
        HEARD.append(self)

    def _hear(self, word: str) -> None:
        if len(self.words) == self.fails_at:
            raise ConnectionError("gone")
        self.words.append(word)

    def started(self, run: RunSpec) -> None:
        self._hear(f"started {run.id}")

    def epoch(self, run: RunSpec, result: EpochResult, curves: object) -> None:
        self._hear(f"epoch {run.id} {result.epoch}")

    def ended(self, run: RunSpec, status: Status) -> None:
        self._hear(f"ended {run.id} {status}")

    def close(self) -> None:
        self._hear("close")


HEARD: list[Heard] = []


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Heard]:
    HEARD.clear()
    monkeypatch.setitem(trackers.TRACKERS, "heard", Heard)
    monkeypatch.setitem(trackers.TRACKERS, "other", Heard)
    monkeypatch.setattr(trackers, "PACKAGES", {"heard": "json", "other": "json"})
    return HEARD


def test_a_tracker_hears_every_run_from_its_start_to_its_end(
    finished: Path, tmp_path: Path, heard: list[Heard]
) -> None:
    events = tell(finished, "heard", tmp_path)
    [one] = heard
    assert one.words[-1] == "close"
    kinds = Counter(word.split()[0] for word in one.words)
    told = Counter(type(event) for event in events)
    assert kinds["started"] == told[ledger.RunStarted]
    assert kinds["epoch"] == told[ledger.EpochDone]
    assert kinds["ended"] == told[ledger.RunEnded]


def test_a_run_that_was_at_work_is_started_again(
    finished: Path, tmp_path: Path, heard: list[Heard]
) -> None:
    events = ledger.read(finished / "ledger.jsonl")
    started = next(e for e in events if isinstance(e, ledger.RunStarted))
    plan = Plan.read(finished / "plan.toml")
    with Tracking(["heard"], plan, tmp_path, past=[started]) as tracking:
        tracking(ledger.RunResumed(started.run.id, 0, 1.0))
    assert heard[0].words == [f"started {started.run.id}", "close"]


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(
    finished: Path, tmp_path: Path, heard: list[Heard], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan.read(finished / "plan.toml")
    with Tracking(["heard:2", "other"], plan, tmp_path) as tracking:
        for event in ledger.read(finished / "ledger.jsonl"):
            tracking(event)
    assert capsys.readouterr().err.count("heard is left out from here on: ConnectionError") == 1
    assert len(heard[0].words) == 2
    assert heard[1].words[-1] == "close"


def test_what_cannot_track_is_told_beforehand(heard: list[Heard]) -> None:
    with pytest.raises(InputError, match="did you mean 'heard'"):
        check_trackers(["herd"])
    trackers.PACKAGES["heard"] = "no_such_package"
    with pytest.raises(EnvironmentFault, match="pip install no_such_package"):
        check_trackers(["heard"])


def test_examples_a_second_are_of_the_epoch_that_was_trained() -> None:
    base = EpochResult(1, 1.0, 9, 9, 0.5, 0.4, 0.3, (0.1,), (0,), 0.3, 2.0, 0.1, 5.0)
    assert base.curves(100)["examples_per_s"] == 50.0
    cut = replace(base, epoch=3, epoch_equivalents=2.25)
    assert cut.curves(100)["examples_per_s"] == 12.5
    assert "test/accuracy" not in base.curves(100), "not measured"
