"""The plan: frozen, written, read back; its seeds never meet."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.ray_backend.test_engine import plan
from tune_adaptive.errors import InputError
from tune_adaptive.records.plan import START_UP_S, Plan, hash_file
from tune_adaptive.records.runs import Slowdown, Stage


def test_a_plan_survives_its_file(finished: Path, tmp_path: Path) -> None:
    read = Plan.read(finished / "plan.toml")
    read.write(tmp_path / "plan.toml")
    assert (tmp_path / "plan.toml").read_bytes() == (finished / "plan.toml").read_bytes()
    assert Plan.read(tmp_path / "plan.toml") == read


def test_no_two_stages_share_a_seed() -> None:
    stages: tuple[Stage, ...] = ("search", "select", "final")
    made = plan()
    seeds = [made.stage_seed(stage, index) for stage in stages for index in range(10_000)]
    assert len(set(seeds)) == len(seeds)


def test_costs_are_counted_in_full_runs() -> None:
    made = plan()  # one task of 3 epochs at 0.1 s, one schedule, two slots
    # Two candidates and the defaults; selected and default finals, and three canaries.
    assert [made.stage_epochs(stage) for stage in made.stages] == [3, 18, 12 + 9]
    slot_s = (3 + 18) * 0.1 / 2 + (12 + 9) * 0.1  # finals have the device to themselves
    assert made.estimated_s() == pytest.approx(START_UP_S + slot_s)


def test_ablations_and_contention_are_counted() -> None:
    made = replace(plan(), schedules=("adaptive", "step"), ablations=True)
    made = replace(made, slowdown=Slowdown(2.0, 0.4))
    assert made.stages == ("search", "select", "final", "ablation", "contention")
    assert made.full_runs("ablation") == 2 * 7
    assert made.full_runs("contention") == pytest.approx(2 * (2 + 7) * 0.7)


def test_what_is_written_is_read_and_hashed(tmp_path: Path) -> None:
    made = replace(plan(), slowdown=Slowdown(2.0, 0.4), time_budget_s=60.0)
    sha256 = made.write(tmp_path / "plan.toml")
    assert Plan.read(tmp_path / "plan.toml") == made
    assert sha256 == hash_file(tmp_path / "plan.toml")


@pytest.mark.parametrize("text", ["", "format = 9", "not toml [", "format = 2\ntasks = []"])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(InputError):
        Plan.read(tmp_path / "plan.toml")


def test_a_folder_without_a_plan_is_not_an_experiment(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an experiment"):
        Plan.read(tmp_path / "plan.toml")
