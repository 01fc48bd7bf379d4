"""The worker process, in this process."""

import pytest
import torch

from tune_adaptive.tuning.trainable import claim_device


def test_each_worker_may_fill_only_its_share_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    capped: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", capped.append)
    assert claim_device(0.25) == torch.device("cuda", 0)
    assert capped == [0.25]
    assert claim_device(1.0) == torch.device("cuda", 0)
    assert capped == [0.25]
    assert claim_device(0.0) == torch.device("cpu")


def test_logical_gpus_train_on_the_cpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU; runs in every CPU-only test run")
    assert claim_device(0.25) == torch.device("cpu")


@pytest.mark.gpu
def test_the_cap_is_enforced() -> None:
    device = claim_device(0.1)
    total = torch.cuda.get_device_properties(device).total_memory
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(0.2 * total), dtype=torch.uint8, device=device)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
