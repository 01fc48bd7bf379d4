"""The plan: frozen, written, read back; its seeds never meet."""

from pathlib import Path

import pytest

from tests.tuning.test_engine import plan
from tune_adaptive.errors import InputError
from tune_adaptive.plan import Plan
from tune_adaptive.runs import Stage


def test_a_plan_survives_its_file(finished: Path, tmp_path: Path) -> None:
    read = Plan.read(finished / "plan.toml")
    read.write(tmp_path / "plan.toml")
    assert (tmp_path / "plan.toml").read_bytes() == (finished / "plan.toml").read_bytes()
    assert Plan.read(tmp_path / "plan.toml") == read


def test_no_two_stages_share_a_seed() -> None:
    stages: tuple[Stage, ...] = ("search", "select", "final")
    seeds = [plan().stage_seed(stage, index) for stage in stages for index in range(10_000)]
    assert len(set(seeds)) == len(seeds)


def test_costs_are_counted_in_full_runs() -> None:
    made = plan()  # one task of 3 epochs at 0.1 s, one schedule, two slots
    assert [made.stage_epochs(stage) for stage in ("search", "select", "final")] == [3, 12, 6]
    assert made.estimated_s() == pytest.approx((1 + 4 + 2) * 3 * 0.1 / 2)


@pytest.mark.parametrize("text", ["", "format = 9", "not toml [", "format = 2\ntasks = []"])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(InputError):
        Plan.read(tmp_path / "plan.toml")


def test_a_folder_without_a_plan_is_not_an_experiment(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an experiment"):
        Plan.read(tmp_path / "plan.toml")
