"""What a process on a GPU hears, on a GPU that is not there."""

import os
import time
import warnings
from types import SimpleNamespace

import pytest
import torch

from tune_adaptive.signals.gpus import GpuReading
from tune_adaptive.signals.node import Sample
from tune_adaptive.signals.resources import UsageMeter

GPU = torch.device("cuda", 0)


class FakeNode:
    """Says one sample after the other, the last one for ever."""

    def __init__(self, *readings: GpuReading, uuid: str = "uuid0") -> None:
        self.samples = [
            Sample(at=time.time(), cpu_percent=50.0, mem_fraction=0.5, gpus={uuid: reading})
            for reading in readings
        ]

    def latest(self) -> Sample | None:
        if not self.samples:
            return None
        return self.samples.pop(0) if len(self.samples) > 1 else self.samples[0]


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(uuid="uuid0")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 123)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)


def meter(node: FakeNode, pids: list[int] | None = None) -> UsageMeter:
    gpus = SimpleNamespace(pids=lambda uuid: pids)
    return UsageMeter(GPU, node, gpus)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("util", "mem_fraction", "load"),
    [
        (0.75, 0.25, 0.75),
        (0.25, 0.75, 0.75),
        (None, 0.5, 0.5),
        (0.5, None, 0.5),
        (None, None, None),
    ],
)
def test_load_is_the_larger_of_utilisation_and_memory(
    util: float | None, mem_fraction: float | None, load: float | None
) -> None:
    assert meter(FakeNode(GpuReading(util, mem_fraction))).load() == load


def test_utilisation_is_the_mean_of_what_was_heard_since_the_last_reading() -> None:
    heard = meter(FakeNode(*(GpuReading(util, 0.1) for util in (0.2, 0.4, 0.9, 1.0))))
    for _ in range(3):
        heard.load()
    usage = heard.read()
    assert usage.gpu_util == pytest.approx(0.5)
    assert usage.gpu_mem_fraction == 0.1
    assert usage.gpu_mem_bytes == 123
    assert (usage.node_cpu_percent, usage.node_mem_fraction) == (50.0, 0.5)
    assert heard.read().gpu_util == 1.0, "heard nothing since: the latest sample"


def test_nobody_samples_the_node() -> None:
    usage = meter(FakeNode()).read()
    assert usage.gpu_util is usage.gpu_mem_fraction is usage.node_cpu_percent is None
    assert meter(FakeNode()).load() is None


def test_when_nvml_does_not_see_torchs_gpu_it_says_who_sees_what_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    lost = meter(FakeNode(GpuReading(0.5, 0.5), uuid="another"))
    with pytest.warns(RuntimeWarning, match=r"uuid0; NVML sees another \(CUDA_VISIBLE_DEVICES = 7"):
        assert lost.load() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lost.load() is None
        assert lost.read().gpu_util is None


def test_cotenants_are_the_processes_that_are_not_ours() -> None:
    node = FakeNode(GpuReading(0.5, 0.5))
    us, not_us = os.getpid(), os.getppid()  # what started us is not of the experiment
    assert meter(node, [us]).num_cotenants() == 0
    assert meter(node, [us, not_us, not_us]).num_cotenants() == 1
    assert meter(node, [not_us]).num_cotenants() is None, "pids of another namespace"
    assert meter(node, None).num_cotenants() is None


def test_without_a_gpu_there_is_no_load_and_there_are_no_cotenants() -> None:
    cpu = UsageMeter(torch.device("cpu"), FakeNode(GpuReading(0.5, 0.5)))  # type: ignore[arg-type]
    assert cpu.load() is None
    assert cpu.num_cotenants() is None
    usage = cpu.read()
    assert usage.gpu_util is usage.gpu_mem_bytes is None
    assert usage.rss_bytes is not None
    assert usage.rss_bytes > 0
