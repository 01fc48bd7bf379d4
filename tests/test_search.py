"""The command line, end to end, and everything it refuses."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import run_search
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.records import ledger
from tune_adaptive.records.runs import Signal
from tune_adaptive.records.space_files import default_space_dir
from tune_adaptive.signals.replay import dump_signals, read_signals

QUICK = ("--epochs", "1", "--budget", "1", "--final-seeds", "1", "--precision", "fp32")


def test_arms_get_equal_budgets_and_the_test_split_opens_for_finals_only(finished: Path) -> None:
    analysis = Analysis(finished)
    for schedule in analysis.plan.schedules:
        trials = [
            run
            for run in analysis.runs
            if run.spec.stage == "search" and run.spec.arm[1] == schedule
        ]
        spent = sum(run.last.epoch_equivalents for run in trials if run.last)
        assert spent == analysis.plan.budget * analysis.plan.tasks[0].num_epochs
        first = min(trials, key=lambda run: run.spec.id)
        space = analysis.plan.tasks[0].spaces[schedule]
        assert first.spec.configuration.values() == space.defaults(), "the first trial"
    opened = [e.run_id for e in analysis.events if isinstance(e, ledger.TestOpened)]
    finals = [run.spec for run in analysis.runs if run.spec.stage not in ("search", "select")]
    finals = [spec for spec in finals if spec.role != "canary"]
    assert sorted(opened) == sorted(spec.id for spec in finals)
    assert [spec.role for spec in finals].count("selected") == 2 * 3 * 2  # slowed down once more
    assert [check.rule for check in analysis.breaches] == []


def test_final_seeds_are_fresh_and_the_same_for_every_arm(finished: Path) -> None:
    analysis = Analysis(finished)
    seeds = {
        stage: {run.spec.seed for run in analysis.runs if run.spec.stage == stage}
        for stage in ("search", "select", "final")
    }
    assert not seeds["search"] & seeds["select"]
    assert not (seeds["search"] | seeds["select"]) & seeds["final"]
    for schedule in analysis.plan.schedules:
        runs = analysis.history.final_runs("fashion_mnist_mini/cnn", schedule)
        assert {run.spec.seed for run in runs} == seeds["final"]
    everything = {run.spec.seed for run in analysis.runs}
    assert everything == seeds["search"] | seeds["select"] | seeds["final"]


def test_an_existing_name_is_refused(
    search: Callable[..., int], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "ledger.jsonl").read_bytes()
    code = search("--results-dir", str(finished.parent), "--name", finished.name, *QUICK)
    assert code == 2
    assert "exists already" in capsys.readouterr().err
    assert (finished / "ledger.jsonl").read_bytes() == before


@pytest.mark.slow
def test_logical_gpus_pack_and_the_report_says_so(
    search: Callable[..., int], tmp_path: Path
) -> None:
    code = search(
        *("--results-dir", str(tmp_path), "--name", "packed", "--num-gpus", "1"),
        *("--gpus-per-trial", "0.5", "--schedule", "step", *QUICK),
    )
    assert code == 0
    assert "logical GPUs, trained on CPU" in (tmp_path / "packed" / "report.md").read_text()


def test_every_run_records_what_its_schedule_heard(finished: Path) -> None:
    analysis = Analysis(finished)
    recorded = {path.stem for path in (finished / "signals").iterdir()}
    assert recorded == {run.spec.id for run in analysis.runs}
    for run in analysis.runs:
        signals = read_signals(finished / "signals" / f"{run.spec.id}.jsonl")
        steps = [signal.step for signal in signals if signal.lr is not None]
        assert run.last is not None
        assert steps == list(range(run.last.num_steps))


@pytest.mark.slow
def test_a_search_hears_a_recording_and_a_time_budget(
    search: Callable[..., int], tmp_path: Path
) -> None:
    """Every step takes 1 s, twice that from step 40 on; the run should take 60 s: 50 steps."""
    recording = [
        Signal(step, lr=0.1, seconds=1.0 if step < 40 else 2.0, load=0.5) for step in range(79)
    ]
    (tmp_path / "slow.jsonl").write_text(dump_signals(recording))
    spaces = tmp_path / "spaces"
    spaces.mkdir()
    (spaces / "common.toml").write_text((default_space_dir() / "common.toml").read_text())
    (spaces / "adaptive.toml").write_text(
        '[parameters.resource_weight]\ntype = "float"\nlow = 0.99\nhigh = 1.0\nreason = "time"\n'
        "default = 1.0\n"
    )
    code = search(
        *("--results-dir", str(tmp_path), "--name", "slow", "--schedule", "adaptive", *QUICK),
        *("--signals", f"replay:{tmp_path / 'slow.jsonl'}", "--run-time-budget", "60"),
        *("--space", str(spaces)),
    )
    assert code == 0
    analysis = Analysis(tmp_path / "slow")
    assert analysis.plan.signals == "replay"
    assert analysis.plan.run_time_budget_s == 60.0
    assert read_signals(tmp_path / "slow" / "signals" / "replayed.jsonl") == recording
    for run in analysis.runs:
        assert run.last is not None
        if run.spec.role != "canary":
            assert run.last.progress == 1.0
            assert run.last.num_steps == 40 + 10


@pytest.mark.parametrize(
    ("options", "slots"),
    [
        (["--num-gpus", "1", "--gpus-per-trial", "0.25"], 4),
        (["--num-gpus", "2", "--gpus-per-trial", "0.25"], 8),
        (["--num-gpus", "1", "--gpus-per-trial", "0.3"], 3),
        (["--num-gpus", "1", "--gpus-per-trial", "0.25", "--max-concurrent", "3"], 3),
        (["--num-gpus", "1"], 1),
        ([], 2),
    ],
)
def test_how_many_trials_run_at_once(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    slots: int,
) -> None:
    monkeypatch.setattr("tune_adaptive.signals.capacity.cpus_here", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run_search("--plan", *options, *QUICK) == 0
    assert f"{slots} concurrent trials" in capsys.readouterr().out


def test_a_schedule_that_always_diverges_ends_with_code_5(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spaces = tmp_path / "spaces"
    spaces.mkdir()
    common = (default_space_dir() / "common.toml").read_text()
    common = common.replace(
        "low = 1e-4\nhigh = 3e-2\nlog = true\ndefault = 1e-3",
        "low = 1e29\nhigh = 1e30\ndefault = 1e30",
    )
    (spaces / "common.toml").write_text(common)
    (spaces / "constant.toml").write_text("")
    code = search(
        *("--results-dir", str(tmp_path / "out"), "--name", "lost", "--schedule", "constant"),
        *("--space", str(spaces), *QUICK),
    )
    assert code == 5
    assert "no trial trained to its end" in capsys.readouterr().err
    [row] = [
        event
        for event in ledger.read(tmp_path / "out" / "lost" / "ledger.jsonl")
        if isinstance(event, ledger.RunEnded)
    ]
    assert row.status == "diverged"


def test_the_plan_is_shown_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_search("--plan", "--results-dir", str(tmp_path / "out"), *QUICK) == 0
    shown = capsys.readouterr().out
    assert "epochs in all" in shown
    assert "concurrent trials on CPU" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "fashion_mnist_mini/cn"], "did you mean 'cnn'?"),
        (["--schedule", "adaptve"], "unknown schedule 'adaptve'; did you mean 'adaptive'?"),
        (["--schedule", "step", "--schedule", "step"], "schedule 'step' is given twice"),
        (["--precision", "fp23"], "--precision must be one of auto, fp32, bf16"),
        (["--signals", "stedy"], "did you mean 'steady'?"),
        (["--signals", "replay"], "--signals replay: live, steady or replay:FILE"),
        (["--signals", "live:x"], "--signals live:x: live, steady or replay:FILE"),
        (["--signals", "replay:no/such.jsonl"], "no/such.jsonl: no recording of signals"),
        (["--run-time-budget", "0"], "--run-time-budget must be > 0 and at most"),
        (["--run-time-budget", "inf"], "--run-time-budget must be > 0 and at most"),
        (["--run-time-budget", "9", "--signals", "steady"], "--signals steady has none"),
        (["--gpus-per-trial", "0"], "--gpus-per-trial must be in [0.01, 1], got 0.0"),
        (["--gpus-per-trial", "-0.5"], "--gpus-per-trial must be in [0.01, 1], got -0.5"),
        (["--gpus-per-trial", "nan"], "--gpus-per-trial must be in [0.01, 1], got nan"),
        (["--gpus-per-trial", "1.5"], "--gpus-per-trial must be in [0.01, 1], got 1.5"),
        (["--num-gpus", "-1"], "--num-gpus must be in [0, 1024]"),
        (["--epochs", "0"], "--epochs must be in [1, 1000000], got 0"),
        (["--budget", "0.5"], "--budget must be in [1, 33000], got 0.5"),
        (["--budget", "nan"], "--budget must be in [1, 33000]"),
        (["--final-seeds", "0"], "--final-seeds must be in [1, 100000]"),
        (["--cpus-per-trial", "0"], "--cpus-per-trial must be >= 0.01"),
        (["--max-concurrent", "0"], "--max-concurrent must be in [1, "),
        (["--seed", "-1"], "--seed must be in [0, 4294967295], got -1"),
        (["--name", "../x"], "--name '../x': must be 1 to 64"),
        (["--name", "/x"], "--name '/x': must be 1 to 64"),
        (["--name", ""], "--name '': is empty"),
        (["--name", "x" * 300], "must be 1 to 64"),
        (["--name", "x\n"], "must be 1 to 64"),
        (["--epochs", "many"], "--epochs 'many': must be a whole number"),
        (["--epoch", "3"], "No such option: --epoch"),
        (["--task", "imdb/cnn"], "imdb is text and cnn takes image"),
        (["--stem", "resnet"], "--stem must be one of cifar, imagenet"),
        (["--augment", "standart"], "did you mean 'standard'?"),
        (["--optimizer", "sdg"], "did you mean 'sgd'?"),
        (["--train-size", "0"], "--train-size must be in [1, "),
        (["--train-size", "9999"], "--train-size 9999: there are 5000 training examples"),
        (["--clip-norm", "nan"], "--clip-norm must be > 0, got nan"),
        (
            ["--task", "mnist/cnn", "--data-dir", "no/such"],
            "--data-dir no/such: has no folder mnist",
        ),
        (["--task", "no_such.module:task"], "ModuleNotFoundError: No module named 'no_such'"),
        (["--space", "no/such/folder"], "adaptive.toml: cannot be read: No such file"),
    ],
)
def test_bad_input_is_one_clear_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    out = tmp_path / "out"
    assert run_search("--results-dir", str(out), *arguments) == 2
    shown = capsys.readouterr()
    assert message in " ".join(shown.err.replace("│", " ").split())
    assert "Traceback" not in shown.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus-per-trial", "0.25"], "there is no GPU here"),
        (["--gpus-per-trial", "0.25", "--num-gpus", "0"], "there is no GPU here"),
        (["--cpus-per-trial", "1000"], "this machine has"),
    ],
)
def test_what_the_machine_lacks_is_exit_code_3(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    out = tmp_path / "out"
    assert run_search("--results-dir", str(out), *arguments) == 3
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file", "cannot be written"),
        ("file/below", "cannot be written"),
        ("/proc/tune_adaptive", "0 MiB are free"),
    ],
)
def test_a_results_folder_that_cannot_be_written_is_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, message: str
) -> None:
    (tmp_path / "file").write_text("")
    assert run_search("--results-dir", str(tmp_path / place), "--name", "x", *QUICK) == 3
    assert message in capsys.readouterr().err


def test_a_full_disk_is_told_before_anything_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3 * 2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert run_search("--results-dir", str(tmp_path), "--name", "x", *QUICK) == 3
    assert "3 MiB are free, 256 are needed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_problem_of_the_space_files_is_told_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "common.toml").write_text("[parameters.lr]\ntype = 'float'\nlow = 1\nhigh = 1\n")
    (tmp_path / "step.toml").write_text("[parameters.gamma]\ntype = 'flaot'\n")
    code = run_search("--space", str(tmp_path), "--schedule", "step", "--name", "x")
    assert code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)


@pytest.mark.parametrize(
    ("schedule", "edit", "message"),
    [
        ("adaptive", ("high = 0.4\n", "high = 0.7\n"), "feedback_factor must be in (0, 0.5)"),
        ("common", ("low = 1e-4\nhigh = 3e-2\nlog = true\n", "low = -1\nhigh = 1\n"), "-1"),
        ("common", ("low = 0.0\nhigh = 0.1\n", "low = 0.0\nhigh = 1.0\n"), "warmup_steps must"),
    ],
)
def test_a_space_that_its_schedule_would_refuse_is_refused_first(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    schedule: str,
    edit: tuple[str, str],
    message: str,
) -> None:
    shutil.copytree(default_space_dir(), tmp_path / "spaces")
    path = tmp_path / "spaces" / f"{schedule}.toml"
    assert edit[0] in path.read_text()
    path.write_text(path.read_text().replace(*edit))
    code = run_search("--plan", "--space", str(tmp_path / "spaces"), "--schedule", "adaptive")
    assert code == 2
    assert message in capsys.readouterr().err


def test_help_fits_a_screen() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tune_adaptive", "search", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "100", "PATH": "", "TERM": "dumb"},
    )
    assert len(done.stdout.strip().splitlines()) <= 64
    for option in ("--task", "--schedule", "--budget", "--gpus-per-trial", "--plan", "--space"):
        assert option in done.stdout
