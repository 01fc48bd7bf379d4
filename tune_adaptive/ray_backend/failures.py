"""Which failures of a run are worth another try, and what is said of a worker that died.

How often a run is tried again, the plan says (``max_retries``) and ``protocol/stages.py`` counts.
"""

from tune_adaptive.training.device import is_out_of_memory

LASTING = (FileNotFoundError, NotADirectoryError, PermissionError)


def may_pass(error: Exception) -> bool:
    """Whether ``error`` is one of a run's surroundings; any other the run would raise again.

    Memory that is short is: a neighbour on the GPU, or on the machine, may have taken it.
    """
    if is_out_of_memory(error):
        return True
    return isinstance(error, OSError) and not isinstance(error, LASTING)


def of_worker(told: str) -> str:
    """Say why a worker died, from what Ray says of it; its run is worth another try."""
    reason = "its node ran out of memory" if "low on memory" in told else "its process ended"
    return f"{told}WorkerDied: {reason}"
