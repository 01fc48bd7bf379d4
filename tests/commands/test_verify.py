"""A published configuration, run again on fresh seeds."""

import math
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.analysis.stats import Mean, mean_interval
from tune_adaptive.commands.verify import judge_rerun, main
from tune_adaptive.errors import InputError
from tune_adaptive.records.plan import FIRST_SEED
from tune_adaptive.system.console import run_command


def verify(*arguments: str) -> int:
    before = sys.argv
    sys.argv = ["tune-adaptive verify", *arguments]
    try:
        run_command(main)
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def test_the_prediction_interval_is_that_of_a_mean_of_new_runs() -> None:
    old, new = [0.80, 0.82, 0.81, 0.85], [0.80, 0.84]
    judged = judge_rerun(mean_interval(old), new)
    half = stats.t.ppf(0.975, 3) * np.std(old, ddof=1) * math.sqrt(1 / 4 + 1 / 2)
    assert judged.prediction == pytest.approx((np.mean(old) - half, np.mean(old) + half))
    assert judged.found.mean == pytest.approx(0.82)
    assert judged.reproduced
    assert judged.predicted


@pytest.mark.parametrize(
    ("found", "reproduced", "predicted"),
    [(0.80, True, True), (0.815, False, True), (0.83, False, False), (0.785, False, True)],
)
def test_the_two_intervals_are_not_the_same(
    found: float, reproduced: bool, predicted: bool
) -> None:
    judged = judge_rerun(Mean(0.80, 0.79, 0.81, 4), [found])
    assert (judged.reproduced, judged.predicted) == (reproduced, predicted)


def test_95_percent_of_new_means_lie_in_the_prediction_interval() -> None:
    rng = np.random.default_rng(0)
    inside = [
        judge_rerun(mean_interval(list(rng.normal(size=6))), list(rng.normal(size=4))).predicted
        for _ in range(2000)
    ]
    assert 0.93 <= np.mean(inside) <= 0.97


def test_no_interval_cannot_be_judged() -> None:
    with pytest.raises(InputError, match="without an interval"):
        judge_rerun(Mean(0.8, None, None, 1), [0.8])


@pytest.fixture
def exported(finished: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(finished / "best", folder)
    return folder / "fashion_mnist_mini-cnn" / "step.toml"


def test_a_best_configuration_is_run_again(
    exported: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = verify(str(exported), "--seeds", "2")
    told = capsys.readouterr().out
    found = [float(x) for x in re.findall(r"^seed \d+: ([\d.]+)%", told, flags=re.M)]
    seeds = {int(x) for x in re.findall(r"^seed (\d+):", told, flags=re.M)}
    [(low, high)] = re.findall(r"^published: [\d.]+% \[([\d.-]+), ([\d.]+)\] n=2", told, flags=re.M)
    inside = float(low) <= np.mean(found) <= float(high)
    assert len(found) == 2
    assert code == (0 if inside else 1)
    assert ("not reproduced" in told) == (not inside)
    assert not seeds & {run.spec.seed for run in Analysis(finished).runs}


def test_the_same_seed_would_give_the_same_accuracy(
    exported: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What verify trains is what the final stage trained."""
    monkeypatch.setitem(FIRST_SEED, "verify", FIRST_SEED["final"])
    assert verify(str(exported), "--seeds", "2") == 0
    runs = Analysis(finished).history.final_runs("fashion_mnist_mini/cnn", "step")
    told = capsys.readouterr().out
    assert len(runs) == 2
    for run in runs:
        assert run.last is not None
        assert run.last.test_metric is not None
        assert f"seed {run.spec.seed}: {100 * run.last.test_metric:.2f}%" in told


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda text: re.sub(r'data_sha256 = "..', 'data_sha256 = "xx', text),
            "tuned on other data",
        ),
        (lambda text: re.sub(r"(?m)^(low|high) = .*$", "", text, count=0), "without an interval"),
        (lambda text: re.sub(r"(?m)^gamma = .*$", "gamma = 7.0", text, count=1), "gamma = 7.0"),
        (lambda text: re.sub(r"(?m)^batch_size = .*$", "", text), "can be verified"),
        (lambda text: re.sub(r"(?m)^clip_norm = .*$", 'clip_norm = "x"', text), "can be verified"),
        (
            lambda text: re.sub(r"(?m)^precision = .*$", 'precision = "fp9"', text),
            "can be verified",
        ),
        (lambda text: re.sub(r"(?m)^mean = .*$", "mean = []", text), "can be verified"),
        (
            lambda text: re.sub(r"(?m)^task = .*$", 'task = "os:path"', text),
            "a task of your own; give it again",
        ),
    ],
)
def test_what_cannot_be_verified_is_refused(
    exported: Path,
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[str], str],
    message: str,
) -> None:
    text = exported.read_text()
    if message == "without an interval":  # of the published accuracy only
        head, table, rest = re.split(r"(?m)^(\[provenance\.test_metric\])$", text)
        own, *after = re.split(r"(?m)^(?=\[)", rest, maxsplit=1)
        text = head + table + edit(own) + "".join(after)
    else:
        text = edit(text)
    assert text != exported.read_text()
    exported.write_text(text)
    assert verify(str(exported)) == 2
    assert message in capsys.readouterr().err


def test_a_folder_and_no_seeds_are_refused(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(str(exported.parent)) == 2
    assert "directory" in capsys.readouterr().err
    assert verify(str(exported), "--seeds", "0") == 2
    assert "--seeds must be >= 1, got 0" in capsys.readouterr().err
