"""The benchmarks that simulate still run, at a tiny size, and say what they should."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a benchmark as its command does: its folder is where it looks first."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


def test_searches_replay_the_recorded_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    quality = load("quality", monkeypatch)
    curves = quality.Curves.read()
    first = quality.space().defaults()
    assert len(curves.of(first)) == quality.NUM_EPOCHS
    best = curves.values[:, -1].argmax()
    values = quality.space().at(curves._points[best].clip(0, 1 - 1e-9))
    assert curves.of(values)[-1] >= curves.target(1) > curves.target(5)
    budget = 4 * quality.NUM_EPOCHS
    searches = {name: [list(s(curves, budget, 0))] for name, s in quality.SEARCHES.items()}
    for name, [ends] in searches.items():
        assert [e.spent for e in ends] == sorted(e.spent for e in ends), name
        assert budget - quality.NUM_EPOCHS < ends[-1].spent <= budget, name
        assert any(e.final is not None for e in ends), name
    *_, last = quality.table(searches, budget, target=0.0)
    assert last.startswith("| stock, our rungs | 1 of 1 |")
    *_, last = quality.table(searches, budget, target=1.0)
    assert last.startswith(f"| stock, our rungs | 0 of 1 | {budget} | > {budget} |")


def test_an_early_value_told_complete_is_all_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    quality = load("quality", monkeypatch)
    curves = quality.Curves.read()
    arms: list[quality.ToldComplete] = []

    class Kept(quality.ToldComplete):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)
            arms.append(self)

    list(quality.ours(curves, 8 * quality.NUM_EPOCHS, 0, Kept))
    [arm] = arms
    early = [t for t in arm.trials if max(t.intermediate_values, default=0) < quality.NUM_EPOCHS]
    assert early
    assert {trial.state.name for trial in early} == {"COMPLETE"}
    assert all(t.value == t.intermediate_values[max(t.intermediate_values)] for t in early)


def test_a_simulated_search_costs_something_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    growth = load("growth", monkeypatch)
    cost = growth.simulate(growth.make_plan(num_trials=24, num_arms=2))
    assert 12 <= cost.num_trials <= 48
    assert cost.search_s > 0
    assert cost.studies_s > 0
