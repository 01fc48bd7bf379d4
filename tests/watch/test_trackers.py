"""TensorBoard, MLflow and W&B hear what the ledger tells."""

import socket
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.records.runs import EpochResult, RunSpec, Status
from tune_adaptive.watch import trackers
from tune_adaptive.watch.stores import sqlite_url
from tune_adaptive.watch.trackers import Tracking, check_trackers


def tell(finished: Path, asked: str, folder: Path, upto: int | None = None) -> list[ledger.Event]:
    """Let a tracker hear a finished experiment, as if it ran now."""
    events = ledger.read(finished / "ledger.jsonl")[:upto]
    with Tracking([asked], Plan.read(finished / "plan.toml"), folder / "small") as tracking:
        for event in events:
            tracking(event)
    return events


def begin(asked: str, results: Path) -> None:
    """Begin to track an experiment of which nothing is known but its name."""
    plan: Any = SimpleNamespace(name="small", created="now", tasks=())
    with Tracking([asked], plan, results / "small"):
        pass


def rewound(finished: Path) -> tuple[list[ledger.Event], list[ledger.Event], RunSpec]:
    """What two sessions hear: a run of two epochs is interrupted, and goes on after its first."""
    events = ledger.read(finished / "ledger.jsonl")
    run = next(
        event.run
        for event in events
        if isinstance(event, ledger.RunStarted) and event.run.stage == "select"
    )
    own = [e for e in events if getattr(e, "run_id", "") == run.id]
    start = next(e for e in events if isinstance(e, ledger.RunStarted) and e.run == run)
    first, second, end = own
    assert isinstance(second, ledger.EpochDone)
    later = second.result.ended_at + 10.0
    again = replace(second.result, val_metric=0.125, ended_at=later)
    return (
        [start, first, second],
        [
            ledger.RunResumed(run.id, 1, 5.0),
            ledger.EpochDone(run.id, again),
            end,
        ],
        run,
    )


def tell_rewound(finished: Path, asked: str, folder: Path) -> RunSpec:
    before, after, run = rewound(finished)
    plan = Plan.read(finished / "plan.toml")
    for past, events in ((None, before), (before, after)):
        with Tracking([asked], plan, folder / "small", past) as tracking:
            for event in events:
                tracking(event)
    return run


def epochs_of(events: list[ledger.Event]) -> dict[str, list[EpochResult]]:
    epochs: dict[str, list[EpochResult]] = {}
    for event in events:
        if isinstance(event, ledger.EpochDone):
            epochs.setdefault(event.run_id, []).append(event.result)
    return epochs


def test_tensorboard_reads_every_curve_of_every_run(finished: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    epochs = epochs_of(tell(finished, "tensorboard", tmp_path))
    folders = {path.name: path for path in (tmp_path / "small" / "tensorboard").iterdir()}
    assert set(folders) == set(epochs)
    for run_id in list(epochs)[:3] + list(epochs)[-3:]:
        read = EventAccumulator(str(folders[run_id]))
        read.Reload()
        points = read.Scalars("validation/accuracy")
        assert [point.step for point in points] == [each.epoch for each in epochs[run_id]]
        assert [point.value for point in points] == pytest.approx(
            [each.val_metric for each in epochs[run_id]]
        )
        assert read.Scalars("lr")[-1].value == pytest.approx(epochs[run_id][-1].lrs[-1])
        assert read.Scalars("examples_per_s")[0].value > 0


def test_tensorboard_draws_no_epoch_that_was_void(finished: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tell_rewound(finished, f"tensorboard:{tmp_path / 'all'}", tmp_path)
    read = EventAccumulator(str(tmp_path / "all" / "small" / run.id))
    read.Reload()
    points = {point.step: point.value for point in read.Scalars("validation/accuracy")}
    assert sorted(points) == [1, 2]
    assert points[2] == 0.125
    assert len(read.Scalars("validation/accuracy")) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy
def test_mlflow_keeps_runs_in_a_file_and_finds_them_again(finished: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run = tell_rewound(finished, "mlflow", tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    [made] = client.search_runs([experiment.experiment_id])
    assert made.data.tags["run_id"] == run.id
    assert made.data.tags["schedule"] == run.configuration.schedule
    assert made.data.metrics["validation/accuracy"] == 0.125
    assert float(made.data.params["lr"]) == run.configuration.recipe.lr
    assert made.info.status == "FINISHED"
    other = replace(Plan.read(finished / "plan.toml"), created="another day")
    with Tracking(["mlflow"], other, tmp_path / "small") as tracking:
        tracking(rewound(finished)[0][0])
    assert len(client.search_runs([experiment.experiment_id])) == 2, "another of the same name"


@pytest.mark.slow
def test_wandb_writes_runs_offline(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    events = tell(finished, "wandb:project", tmp_path, upto=30)
    begun = [e.run.id for e in events if isinstance(e, ledger.RunStarted)]
    kept = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len({path.name for path in kept}) == len(begun)
    assert all(path.stat().st_size > 0 for path in kept)
    assert not (tmp_path / "small").exists(), "W&B makes links, and none may be in an experiment"
    tell_rewound(finished, "wandb:project", tmp_path)


@pytest.mark.slow
def test_wandb_without_a_login_is_told_beforehand(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("wandb.login", lambda prompt, verify: False)
    with pytest.raises(EnvironmentFault, match="WANDB_MODE=offline"):
        tell(finished, "wandb", tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy
def test_an_experiment_that_was_deleted_in_mlflow_is_told_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    begin("mlflow", tmp_path / "My%20Drive?#{x}")
    [own] = (tmp_path / "My%20Drive?#{x}").iterdir()
    client = MlflowClient(sqlite_url(own))
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(EnvironmentFault, match=r"'small' there was deleted: `mlflow experiments"):
        begin("mlflow", tmp_path / "My%20Drive?#{x}")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("mlflow:http://127.0.0.1:{port}", "nothing answers at"),
        ("mlflow:sqlite:///{folder}/no/such/x.db", "Permission denied"),
        ("mlflow:http://127.0.0.1:port", "Port could not be cast"),
        ("mlflow", "exists"),
        ("tensorboard:{folder}/small", "Not a directory"),
        ("tensorboard:~nobody-has-this-name/x", "home directory"),
    ],
)
def test_a_tracker_that_cannot_write_is_told_before_the_search(
    tmp_path: Path, asked: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the minutes for which MLflow would ask."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    (tmp_path / "small").write_text("")  # where a folder is wanted
    where = asked.format(port=closed_port(), folder=tmp_path)
    with pytest.raises(EnvironmentFault, match=f"--track {where.partition(':')[0]}: .*{message}"):
        begin(where, tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_folder_that_cannot_be_written_is_told_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(EnvironmentFault, match=r"--track tensorboard: .*Permission denied"):
        begin(f"tensorboard:{tmp_path}", tmp_path)


class Heard:
    """A tracker that remembers, and fails when it is told to."""

    def __init__(self, plan: Plan, folder: Path, where: str) -> None:
        self.words: list[str] = []
        if where == "gone":
            raise ConnectionError("gone")
        self.fails_at = int(where or 10**9)
        HEARD.append(self)

    def _hear(self, word: str) -> None:
        if len(self.words) == self.fails_at:
            raise ConnectionError("gone")
        self.words.append(word)

    def started(self, run: RunSpec, num_epochs: int) -> None:
        self._hear(f"started {run.id} {num_epochs}")

    def epoch(self, run: RunSpec, epoch: int, at: float, curves: object) -> None:
        self._hear(f"epoch {run.id} {epoch}")

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
        tracking(ledger.RunResumed(started.run.id, 1, 1.0))
    assert heard[0].words == [f"started {started.run.id} 1", "close"]


def test_a_run_that_ended_by_what_was_written_before_is_known(
    finished: Path, tmp_path: Path, heard: list[Heard]
) -> None:
    """Killed between a run's last epoch and its end, which the next session writes."""
    events = ledger.read(finished / "ledger.jsonl")
    started = next(e for e in events if isinstance(e, ledger.RunStarted))
    plan, run_id = Plan.read(finished / "plan.toml"), started.run.id
    with Tracking(["heard"], plan, tmp_path, past=[started]) as tracking:
        tracking(ledger.RunEnded(run_id, "completed", "", 1.0))
    assert heard[0].words == [f"started {run_id} 2", f"ended {run_id} completed", "close"]


def test_one_that_cannot_begin_is_told_before_a_search_and_left_out_after(
    finished: Path, tmp_path: Path, heard: list[Heard], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan.read(finished / "plan.toml")
    with pytest.raises(EnvironmentFault, match="--track heard: gone"):
        tell(finished, "heard:gone", tmp_path)
    with Tracking(["heard:gone", "other"], plan, tmp_path, past=[]) as tracking:
        tracking(ledger.Closed(0, 1.0))
    assert "heard is left out: gone" in capsys.readouterr().err
    assert heard[0].words == ["close"]


def test_a_slow_tracker_holds_nothing_up(
    finished: Path, tmp_path: Path, heard: list[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(Heard, "started", lambda self, run, num_epochs: go_on.wait(60))
    told = []
    with Tracking(["heard"], Plan.read(finished / "plan.toml"), tmp_path) as tracking:
        for event in ledger.read(finished / "ledger.jsonl"):
            tracking(event)
            told.append(event)
        assert heard[0].words == [], "all was told while it had not heard the first word"
        go_on.set()
    assert told
    assert heard[0].words[-1] == "close"


def test_no_secret_is_written_down_with_the_command() -> None:
    with pytest.raises(InputError, match="leave them to the environment") as told:
        check_trackers(["mlflow:https://user:secret@host"])
    assert "secret" not in str(told.value)


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
    assert base.curves(100, "accuracy")["examples_per_s"] == 50.0
    cut = replace(base, epoch=3, epoch_equivalents=2.25)
    assert cut.curves(100, "accuracy")["examples_per_s"] == 12.5
    assert "test/accuracy" not in base.curves(100, "accuracy"), "not measured"
