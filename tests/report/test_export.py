"""Exported schedules: written, read back, refused when edited out of their space."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tune_adaptive import load_schedule
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.commands.export import main
from tune_adaptive.errors import InputError
from tune_adaptive.report.export import export
from tune_adaptive.schedules import SCHEDULES, Horizon
from tune_adaptive.system.console import run_command


@pytest.fixture
def best(finished: Path) -> Path:
    return finished / "best" / "fashion_mnist_mini-cnn"


@pytest.mark.parametrize("schedule", ["adaptive", "step", "exponential"])
def test_a_schedule_comes_back_in_two_lines(best: Path, schedule: str) -> None:
    loaded = load_schedule(best / f"{schedule}.toml")
    optimizer = torch.optim.AdamW(torch.nn.Linear(2, 1).parameters(), loaded.lr)
    built = loaded.build(optimizer, total_steps=100)
    twin = torch.optim.AdamW(torch.nn.Linear(2, 1).parameters(), loaded.lr)
    warmup_steps = round(100 * loaded.configuration.recipe.warmup_frac)
    direct = SCHEDULES[schedule](
        twin,
        Horizon(100, warmup_steps, loaded.complexity, timer=None),
        **loaded.configuration.parameters,
    )
    lrs = []
    for _ in range(100):
        for each in (built, direct):
            each.optimizer.step()
            if hasattr(each, "observe"):
                each.observe(loss=1.0, seconds=1.0)
            each.step()
        assert built.get_last_lr() == direct.get_last_lr()
        lrs.append(built.get_last_lr()[0])
    assert len(set(lrs)) > 1


def test_it_is_the_configuration_that_was_selected(finished: Path, best: Path) -> None:
    analysis = Analysis(finished)
    for arm in analysis.arms:
        loaded = load_schedule(best / f"{arm.schedule}.toml")
        assert loaded.configuration == arm.configuration
        assert loaded.complexity == analysis.plan.tasks[0].complexity.value
        assert loaded.provenance["experiment"] == "small"


def test_exporting_again_writes_the_same(finished: Path, best: Path) -> None:
    before = {path: path.read_bytes() for path in best.iterdir()}
    assert set(export(Analysis(finished))) == set(before)
    assert {path: path.read_bytes() for path in best.iterdir()} == before


def edited(best: Path, folder: Path, pattern: str, new: str) -> Path:
    text, num = re.subn(pattern, new, (best / "step.toml").read_text(), count=1, flags=re.M)
    assert num == 1
    path = folder / "step.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("pattern", "new", "message"),
    [
        (r"^gamma = .*", "gamma = 7.0", r"step.toml: gamma = 7.0: must be in \[0.05, 0.9\]"),
        (r"^gamma = .*", "gama = 0.5", "did you mean 'gamma'"),
        (r"^lr = .*", "lr = nan", "recipe.lr = nan: must be a finite number >= 0"),
        (r"^format = 2", "format = 1", "format 1; this reads 2"),
        (r"^lr = .*", 'lr = "abc"', "recipe.lr = 'abc': must be a finite number >= 0"),
        (r"^warmup_frac = .*", "", "warmup_frac is missing"),
        (r"^value = .*", "value = 7.0", r"complexity.value = 7.0: must be a number in \[0, 1\]"),
        (r"^task = .*", "", "task: is missing"),
        (r"^task = .*", "task = [", "step.toml"),
    ],
)
def test_an_edited_file_is_refused_with_exit_code_2(
    best: Path,
    tmp_path: Path,
    pattern: str,
    new: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = edited(best, tmp_path, pattern, new)
    with pytest.raises(InputError, match=message):
        load_schedule(path)
    monkeypatch.setattr(sys, "argv", ["tune-adaptive export", str(path)])
    with pytest.raises(SystemExit, match="2"):
        run_command(main)
    told = capsys.readouterr().err
    assert re.search(message, told)
    assert "Traceback" not in told


def test_a_file_that_names_another_schedule_is_refused_when_built(
    best: Path, tmp_path: Path
) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    path = edited(best, tmp_path, r"^schedule = .*", 'schedule = "exponential"')
    with pytest.raises(InputError, match="exponential does not take"):
        load_schedule(path).build(optimizer, total_steps=10)
    path = edited(best, tmp_path, r"^schedule = .*", 'schedule = "stp"')
    with pytest.raises(InputError, match="unknown schedule 'stp'; did you mean 'step'"):
        load_schedule(path).build(optimizer, total_steps=10)


def test_a_strangers_names_cannot_leave_the_folder(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(finished, folder)
    for name in ("plan.toml", "ledger.jsonl"):
        path = folder / name
        path.write_text(path.read_text().replace('"exponential"', '"../../../pwned"'))
    with pytest.raises(InputError, match="is no name of an experiment or schedule"):
        export(Analysis(folder))
    assert list(tmp_path.rglob("pwned*")) == []


def test_the_command_line_shows_a_good_file(best: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tune_adaptive", "export", str(best / "step.toml")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "gamma = " in done.stdout


@pytest.mark.slow
def test_rivals_come_back_with_their_own_optimizers_into_a_users_loop(
    search: Callable[..., int], tmp_path: Path
) -> None:
    rivals = ("schedule_free", "prodigy")
    code = search(
        *("--results-dir", str(tmp_path), "--name", "rivals", "--epochs", "1", "--budget", "1"),
        *("--final-seeds", "1", "--precision", "fp32"),
        *(part for rival in rivals for part in ("--schedule", rival)),
    )
    assert code == 0
    for rival in rivals:
        best = load_schedule(
            tmp_path / "rivals" / "best" / "fashion_mnist_mini-cnn" / f"{rival}.toml"
        )
        torch.manual_seed(0)
        x, model = torch.randn(64, 4), torch.nn.Linear(4, 2)
        y = (x[:, 0] > 0).long()
        optimizer = best.optimizer(model.parameters())
        schedule = best.build(optimizer, total_steps=200)
        losses = []
        for _ in range(200):
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            losses.append(loss.item())
        assert losses[-1] < 0.9 * losses[0]
        if rival == "schedule_free":
            trained = model.weight.detach().clone()
            optimizer.eval()  # type: ignore[attr-defined]
            assert not torch.equal(model.weight, trained), "it evaluates at its average"
