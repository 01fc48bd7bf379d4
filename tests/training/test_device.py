"""One way of claiming a device, on GPUs that are only pretended."""

import os
from collections.abc import Iterator

import pytest
import torch

from tests.training.test_loop import TASK, tiny_data
from tune_adaptive.commands import verify
from tune_adaptive.records.runs import Configuration
from tune_adaptive.training import calibration, concurrency, device
from tune_adaptive.training.device import (
    claim_device,
    claimed_device,
    has_lost_gpu,
    is_out_of_memory,
)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what a worker sets for its whole process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    cudnn, threads = torch.backends.cudnn.deterministic, torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = cudnn
    torch.use_deterministic_algorithms(False)


def test_each_worker_may_fill_only_its_share_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    capped: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", capped.append)
    assert claim_device(1, 0.25) == torch.device("cuda", 0)
    assert capped == [0.25]
    assert claim_device(1, 1.0) == torch.device("cuda", 0)
    assert capped == [0.25]
    assert claim_device(1, 0.0) == torch.device("cpu")


def test_a_worker_on_a_gpu_repeats_itself_and_one_on_the_cpu_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    claim_device(1, 0.0)
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    claim_device(1, 1.0)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_logical_gpus_train_on_the_cpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU; runs in every CPU-only test run")
    assert claim_device(1, 0.25) == torch.device("cpu")


@pytest.mark.parametrize(("cpus", "threads"), [(0.25, 1), (1, 1), (2, 2), (3.9, 3)])
def test_each_whole_cpu_is_a_thread(cpus: float, threads: int) -> None:
    claim_device(cpus, 0.0)
    assert torch.get_num_threads() == threads


def test_what_is_drawn_on_a_claimed_device_is_not_drawn_from_a_persons_numbers() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with claimed_device(1, on_gpu=False):
        torch.manual_seed(0)
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)


def test_who_has_other_work_too_gets_back_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    torch.set_num_threads(2)
    with pytest.raises(ValueError), claimed_device(1, on_gpu=True) as claimed:
        assert claimed == torch.device("cuda", 0)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 1
        raise ValueError
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    assert torch.get_num_threads() == 2


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """What was claimed by whom; all get the CPU."""
    claims: list[tuple[float, float]] = []

    def claim(cpus: float, gpu_fraction: float) -> torch.device:
        claims.append((cpus, gpu_fraction))
        return torch.device("cpu")

    monkeypatch.setattr(device, "claim_device", claim)
    return claims


@pytest.mark.parametrize("on_gpu", [True, False])
def test_calibration_claims_what_a_trial_does(
    claims: list[tuple[float, float]], on_gpu: bool
) -> None:
    data = tiny_data()
    calibration.measure_task(
        *(TASK.without_data(), data.describe(), data.train, data.validation),
        **{"precision": "fp32", "by_clock": False, "num_threads": 3},
        **{"on_gpu": on_gpu, "num_concurrent": 1},
    )
    assert claims == [(3, float(on_gpu))]


def test_packing_claims_what_a_trial_does(claims: list[tuple[float, float]]) -> None:
    concurrency._trial(TASK, tiny_data(), "fp32", torch.device("cpu"), 3)
    assert claims == [(3, 0.0)]


@pytest.mark.parametrize(("gpus", "claimed"), [(0.0, 0.0), (0.25, 1.0)])
def test_verification_claims_what_a_trial_does(
    claims: list[tuple[float, float]], gpus: float, claimed: float
) -> None:
    own = verify._Published(
        **{"test_metric": verify._Interval(0.5, 2, 0.4, 0.6), "seed": 0, "num_epochs": 1},
        **{"batch_size": 16, "augment": "none", "clip_norm": 1.0, "precision": "fp32"},
        **{"cpus_per_trial": 2.0, "gpus_per_trial": gpus, "signals": "steady"},
        **{"run_time_budget_s": None, "data_sha256": "", "notes": {}, "options": {}},
    )
    verify._run_again(Configuration("step"), own, TASK, tiny_data(), 1, lambda line: None)
    assert claims == [(2.0, claimed)]


@pytest.mark.parametrize(
    ("message", "is_full", "is_lost"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 GiB.", True, False),
        ("CUDA error: out of memory", True, False),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True, False),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True, False),
        ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", True, False),
        ("cuFFT error: CUFFT_ALLOC_FAILED", True, False),
        ("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", True, False),
        ("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.", True, False),
        ("CUDA error: unspecified launch failure", False, True),
        ("CUDA error: an illegal memory access was encountered", False, True),
        ("CUDA error: device-side assert triggered", False, True),
        ("CUDA error: uncorrectable ECC error encountered", False, True),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", False, True),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", False, True),
        ("CUDA error: no kernel image is available for execution", False, False),
        ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", False, False),
        ("shape '[2]' is invalid for input of size 3", False, False),
    ],
)
def test_what_accelerators_say_is_understood(message: str, is_full: bool, is_lost: bool) -> None:
    error = RuntimeError(message)
    assert (is_out_of_memory(error), has_lost_gpu(error)) == (is_full, is_lost)
    assert not has_lost_gpu(ValueError(message))


@pytest.mark.gpu
def test_the_cap_is_enforced() -> None:
    device = claim_device(1, 0.1)
    total = torch.cuda.get_device_properties(device).total_memory
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(0.2 * total), dtype=torch.uint8, device=device)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
