"""How Accelerate steps the schedules that it has prepared."""

import sys
from types import FrameType

MODULE = "accelerate.scheduler"


def calls_per_step() -> int:
    """Return how often the ``AcceleratedScheduler`` that calls now does so per optimizer step.

    With N processes it calls ``step()`` N times, unless batches are split or it was told not to
    step with the optimizer. A schedule cannot see that but in its caller. 1 without Accelerate.
    """
    if MODULE not in sys.modules:
        return 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == MODULE:
            caller = frame.f_locals["self"]
            if caller.step_with_optimizer and not caller.split_batches:
                return int(frame.f_globals["AcceleratorState"]().num_processes)
            return 1
        frame = frame.f_back
    return 1


def require_one_call_per_step() -> None:
    """Refuse an ``AcceleratedScheduler`` that calls several times per optimizer step.

    Raises:
        ValueError: It does.
    """
    num_calls = calls_per_step()
    if num_calls > 1:
        raise ValueError(
            f"Accelerate calls step() {num_calls} times per optimizer step, once for each "
            "process, and AdaptiveLR counts optimizer steps. Create "
            "Accelerator(step_scheduler_with_optimizer=False), with total_steps = the "
            "optimizer steps of one process."
        )
