"""Ray's custom metrics: what they are set to, and that a long search makes no more of them."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.watch.monitor import CURVES, Monitor

GRAFANA = Path(__file__).resolve().parents[2] / "monitoring" / "grafana.json"

Labels = tuple[tuple[str, str], ...]
SET: dict[str, dict[Labels, float]] = defaultdict(dict)


def set_gauge(name: str, told: str, labels: Mapping[str, str], value: float | None) -> None:
    """Remember a series; its labels' names must be those of the metric's other series."""
    assert re.fullmatch(r"[a-z_]+", name)
    own = tuple(sorted(labels.items()))
    if value is None:
        del SET[name][own]
        return
    assert told
    assert all([k for k, _ in other] == [k for k, _ in own] for other in SET[name])
    SET[name][own] = float(value)


@pytest.fixture
def plan(finished: Path) -> Plan:
    SET.clear()
    return Plan.read(finished / "plan.toml")


def value(name: str, **labels: str) -> list[float]:
    """Every series of a metric that has these labels."""
    wanted = set(labels.items())
    return [x for own, x in SET[name].items() if wanted <= set(own)]


def test_a_whole_experiment_is_told_by_few_series(finished: Path, plan: Plan) -> None:
    monitor = Monitor(plan, set_gauge)
    busy = []
    for event in ledger.read(finished / "ledger.jsonl"):
        monitor(event)
        if isinstance(event, ledger.RunStarted):
            busy += value("slots_busy")
    assert max(busy) == plan.slots
    assert value("slots_busy") == [0.0]
    assert value("slots") == [plan.slots]
    for name, series in SET.items():
        if any(key == "slot" for labels in series for key, _ in labels):
            assert len(series) <= plan.slots, f"{name}: one series a slot, of its last run"
    slots = {dict(labels)["slot"] for labels in SET["val_loss"]}
    assert slots <= {str(slot) for slot in range(plan.slots)}


def test_values_are_those_of_the_ledger(finished: Path, plan: Plan) -> None:
    monitor = Monitor(plan, set_gauge)
    for event in ledger.read(finished / "ledger.jsonl"):
        monitor(event)
        if isinstance(event, ledger.EpochDone):
            run = monitor._tally.runs[event.run_id]
            own = {"task": run.task, "schedule": run.configuration.schedule}
            own["slot"] = str(monitor._places[run.id])
            assert value("val_metric", **own) == [event.result.val_metric]
            assert value("lr", **own) == [event.result.lrs[-1]]
        elif isinstance(event, ledger.Selected):
            break
    for arm, tally in monitor._tally.arms.items():
        own = {"task": arm[0], "schedule": arm[1]}
        assert value("arm_best_val_metric", **own) == [tally.best]
        assert value("arm_runs", state="completed", **own) == [tally.completed]
        assert value("arm_epochs_spent", **own) == [pytest.approx(tally.spent)]


def test_a_resumed_experiment_goes_on_where_it_was(finished: Path, plan: Plan) -> None:
    events = ledger.read(finished / "ledger.jsonl")
    half = next(i for i, event in enumerate(events) if isinstance(event, ledger.EpochDone)) + 1
    running = events[half - 1]
    assert isinstance(running, ledger.EpochDone)
    monitor = Monitor(plan, set_gauge, past=events[:half])
    monitor(ledger.RunResumed(running.run_id, 0, 1.0))
    assert value("slots_busy") == [1.0]
    schedule = monitor._tally.runs[running.run_id].configuration.schedule
    at_work = [e for e in events[:half] if isinstance(e, ledger.RunStarted)]
    own = sum(e.run.configuration.schedule == schedule for e in at_work)
    assert value("arm_runs", state="running", schedule=schedule) == [own]


def test_grafana_asks_for_metrics_that_there_are(finished: Path, plan: Plan) -> None:
    monitor = Monitor(plan, set_gauge)
    for event in ledger.read(finished / "ledger.jsonl"):
        monitor(event)
    there = {f"ray_tune_adaptive_{name}" for name in SET}
    there |= {f"ray_tune_adaptive_{name}" for name, _ in CURVES.values()}  # no GPU here
    dashboard = json.loads(GRAFANA.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [
        v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"
    ]
    asked = {name for query in queries for name in re.findall(r"ray_\w+", query)}
    assert len(queries) > 12
    assert asked <= there
    labels = {key for query in queries for key in re.findall(r"(\w+)=~?\"", query)}
    assert labels <= {"experiment", "task", "schedule", "slot", "state"}


def test_what_is_not_finite_is_told_as_it_is(finished: Path, plan: Plan) -> None:
    """Prometheus knows NaN."""
    events = ledger.read(finished / "ledger.jsonl")
    monitor = Monitor(plan, set_gauge)
    from dataclasses import replace

    for event in events:
        if isinstance(event, ledger.EpochDone):
            bad = replace(event.result, train_loss=math.nan, diverged=True)
            monitor(ledger.EpochDone(event.run_id, bad))
            break
        monitor(event)
    assert any(math.isnan(x) for x in value("train_loss"))
