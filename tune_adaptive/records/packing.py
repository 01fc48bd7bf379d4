"""How many trials should share a GPU: chosen by what was measured.

Twice as many at once are tried as long as their memory fits with head-room and they do more
together. Of those tried, the fewest that do nearly as much as the best are chosen: what does
not gain only makes every trial slower. Nothing here imports torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tune_adaptive.records.codec import Amount, Count, Positive

HEAD_ROOM = 0.2
"""Share of its peak that a trial gets on top of it, for batches longer than those measured."""
TOLERANCE = 0.05
"""Throughputs nearer than this share are taken as equal."""
MAX_TRIALS_ON_A_GPU = 8


@dataclass(frozen=True, slots=True)
class Packed:
    """What trials of a task did at once on one GPU.

    Attributes:
        task: ``dataset/model``.
        num_trials: How many there were.
        examples_per_s: Training examples a second, all of them together.
        peak_bytes: Most memory of the GPU that one of them held, its CUDA context included;
            None where they trained on the CPU.
    """

    task: str
    num_trials: Positive
    examples_per_s: Amount
    peak_bytes: Count | None = None


def pack(
    measure: Callable[[int], Packed | None],
    free_bytes: int | None = None,
    most: int = MAX_TRIALS_ON_A_GPU,
) -> list[Packed]:
    """Measure one trial, then twice as many while that fits and gains.

    Args:
        measure: Trains that many trials at once; None where they ran out of memory.
        free_bytes: Memory of the GPU that the trials may fill together; None does not limit.
        most: Most trials on one GPU, >= 1.

    Returns:
        What was measured, in that order; empty where not even one trial fits.
    """
    measured: list[Packed] = []
    together = 1
    while together <= most and fits(measured, together, free_bytes):
        packed = measure(together)
        if packed is None:
            break
        gains = not measured or _gains(measured[-1], packed)
        measured.append(packed)
        if not gains:
            break
        together *= 2
    if len(measured) == 1 and not fits(measured, 1, free_bytes):
        return []
    return measured


def fits(measured: Sequence[Packed], together: int, free_bytes: int | None) -> bool:
    """Whether ``together`` trials fit with head-room, by the largest peak that was measured."""
    peaks = [packed.peak_bytes for packed in measured if packed.peak_bytes is not None]
    if free_bytes is None or not peaks:
        return True
    return together * max(peaks) * (1 + HEAD_ROOM) <= free_bytes


def choose(measured: Sequence[Packed]) -> int:
    """Return the fewest trials of a task that do nearly as much together as the best."""
    best = max(packed.examples_per_s for packed in measured)
    enough = [p for p in measured if p.examples_per_s >= (1 - TOLERANCE) * best]
    return min(packed.num_trials for packed in enough)


def trials_on_a_gpu(measured: Sequence[Packed]) -> dict[str, int]:
    """Return by task how many of its trials share a GPU."""
    return {task: choose(own) for task, own in _by_task(measured).items()}


def in_words(measured: Sequence[Packed], device: str) -> list[str]:
    """Say what was measured, a line a task, and what follows from it.

    Args:
        measured: Nothing is said where nothing was measured.
        device: What the trials train on, in the plan's words.
    """
    if not measured:
        return []
    lines = []
    for task, own in _by_task(measured).items():
        num_trials = choose(own)
        rates = ", ".join(f"{p.examples_per_s:,.0f} ({p.num_trials})" for p in own)
        peaks = [packed.peak_bytes for packed in own if packed.peak_bytes is not None]
        memory = f"{max(peaks) / 2**20:,.0f} MiB" if peaks else "not measured"
        lines.append(
            f"packing of {task}: examples/s of all (trials on a GPU): {rates}; peak memory of a "
            f"trial: {memory}; so {1 / num_trials:g} of a GPU each trial, {num_trials} on each"
        )
    if device.startswith("logical"):
        lines.append("measured on the CPUs of this machine: a GPU may want another share")
    elif device.endswith("without MPS"):
        lines.append(
            "without MPS trials take turns on a GPU, which adds little throughput to models "
            "that fill it"
        )
    return lines


def _by_task(measured: Sequence[Packed]) -> dict[str, list[Packed]]:
    tasks = dict.fromkeys(packed.task for packed in measured)
    return {task: [packed for packed in measured if packed.task == task] for task in tasks}


def _gains(fewer: Packed, more: Packed) -> bool:
    return more.examples_per_s * (1 - TOLERANCE) > fewer.examples_per_s
