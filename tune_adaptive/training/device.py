"""One way of claiming a device: for trials, for calibration and for verification."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory"
    r"|CU[A-Z]+_(STATUS_)?(ALLOC_FAILED|NOT_INITIALIZED)"  # of cuBLAS, cuDNN and their like
)
GPU_LOST = re.compile(
    r"CUDA (driver )?error: (an illegal|unspecified launch failure|device-side assert|misaligned"
    r"|invalid (address space|program counter)|hardware stack|the launch timed out|uncorrectable"
    r"|unknown error|initialization error|driver shutting down|no CUDA-capable|.*unavailable)"
    r"|CU[A-Z]+_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)"
)
"""After these, whatever the process asks of its GPU fails."""


def claim_device(cpus: float, gpu_fraction: float) -> torch.device:
    """Return the device of this process, its threads and its memory limited to its share.

    On a GPU only algorithms are used that repeat themselves, wherever torch has one, so that
    the same seed gives the same metrics; torch warns where it has none.

    Args:
        cpus: CPUs of a trial, > 0; each whole one is a thread, at least one.
        gpu_fraction: Share of a GPU, in [0, 1]; 0 trains on the CPU, as everything does where
            there is no GPU.
    """
    torch.set_num_threads(max(1, int(cpus)))
    if gpu_fraction > 0 and torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)
        if gpu_fraction < 1:
            torch.cuda.set_per_process_memory_fraction(gpu_fraction)
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@contextmanager
def claimed_device(cpus: float, on_gpu: bool) -> Iterator[torch.device]:
    """Give a trial's device to a process that has other work, too, and put back what it sets.

    Its numbers are those of a trial; its memory is not limited, for it is alone. What is drawn
    meanwhile leaves torch's global generators as they were.
    """
    threads = torch.get_num_threads()
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    mode = torch.get_deterministic_debug_mode()
    try:
        device = claim_device(cpus, 1.0 if on_gpu else 0.0)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield device
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
        torch.backends.cudnn.deterministic = deterministic
        torch.set_deterministic_debug_mode(mode)


BF16 = frozenset({"avx512_bf16", "amx_bf16"})
"""What a CPU must have for bf16 to be worth trying."""


def cpu_capabilities() -> frozenset[str]:
    """Return what this CPU's vectors can do; nothing where torch is too old to say."""
    ask = getattr(torch.cpu, "get_capabilities", None)
    return frozenset(name for name, has in ask().items() if has) if ask else frozenset()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short, of the GPU or of the machine, in any library's words."""
    is_told = isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None
    return is_told or isinstance(error, torch.OutOfMemoryError | MemoryError)


def has_lost_gpu(error: BaseException) -> bool:
    """Whether this process cannot use its GPU any more, as after an illegal memory access."""
    return isinstance(error, RuntimeError) and GPU_LOST.search(str(error)) is not None
