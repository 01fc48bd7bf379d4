"""Gauges are kept set while Ray runs, and none of their faults reaches the search."""

import threading

import pytest

from tune_adaptive.ray_backend import metrics
from tune_adaptive.ray_backend.metrics import Gauges

A, B = {"task": "a/b", "slot": "0"}, {"task": "a/b", "slot": "1"}


class Gauge:
    """Ray's, which counts how often each series is set."""

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert description
        self.name, self.tag_keys = name, tag_keys

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.tag_keys)
        SET.append((self.name, tags["slot"], value))
        if len(SET) >= ENOUGH:
            SEEN.set()


SET: list[tuple[str, str, float]] = []
SEEN = threading.Event()
ENOUGH = 6


@pytest.fixture(autouse=True)
def ray(monkeypatch: pytest.MonkeyPatch) -> None:
    SET.clear()
    SEEN.clear()
    monkeypatch.setattr(metrics, "Gauge", Gauge)
    monkeypatch.setattr(metrics, "EVERY_S", 0.001)
    monkeypatch.setattr("ray.is_initialized", lambda: True)


def test_a_series_is_set_again_and_again_until_it_ends() -> None:
    with Gauges() as gauges:
        gauges("loss", "A loss.", A, 1.0)
        gauges("loss", "A loss.", B, 2.0)
        assert SEEN.wait(60)
        gauges("loss", "", A, None)
        gauges("loss", "", A, None)  # twice is no fault
        SET.clear()
        SEEN.clear()
        assert SEEN.wait(60)
    assert ("tune_adaptive_loss", "1", 2.0) in SET
    assert [slot for _, slot, _ in SET[2:] if slot == "0"] == []


def test_a_series_that_ends_before_any_was_set_takes_no_description_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = threading.Event()
    monkeypatch.setattr("ray.is_initialized", runs.is_set)
    with Gauges() as gauges:
        gauges("loss", "A loss.", A, 1.0)
        gauges("loss", "A loss.", B, 2.0)
        gauges("loss", "", A, None)
        runs.set()
        assert SEEN.wait(5), capsys.readouterr().err


def test_nothing_is_set_where_no_ray_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with Gauges() as gauges:
        gauges("loss", "A loss.", A, 1.0)
        assert not SEEN.wait(0.05)
    assert SET == []


def test_a_fault_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        SEEN.set()
        raise TypeError("no such tag")

    monkeypatch.setattr(metrics, "Gauge", refuse)
    with Gauges() as gauges:
        gauges("loss", "A loss.", A, 1.0)
        assert SEEN.wait(60)
    assert capsys.readouterr().err.count("no metrics from here on") == 1
