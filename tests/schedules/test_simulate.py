"""Learning rates without training."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from tune_adaptive.schedules import SCHEDULES, Horizon
from tune_adaptive.schedules.simulate import simulate


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_can_be_simulated(schedule: str) -> None:
    lrs = simulate(schedule, Horizon(50, 5, 0.4, None), losses=[2.0, 1.0], seconds=[1.0])
    assert len(lrs) == 50
    assert all(math.isfinite(lr) and lr >= 0 for lr in lrs)


def test_signals_move_what_listens() -> None:
    horizon = Horizon(100, complexity=0.0, timer=None)
    slowed = {"resource_weight": 1.0, "feedback": False}
    steady = simulate("adaptive", horizon, parameters=slowed, seconds=[1.0])
    slow = simulate("adaptive", horizon, parameters=slowed, seconds=[1.0] * 40 + [2.0])
    assert slow[:40] == steady[:40]
    assert all(late < planned for late, planned in zip(slow[60:], steady[60:], strict=True))


def test_schedules_are_drawn(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tune_adaptive", "schedules", "plot", "adaptive", "step"]
    out = tmp_path / "drawn.png"
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
    assert out.stat().st_size > 1000
