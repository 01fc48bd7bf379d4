"""Whether CUDA processes that start here share the GPU by NVIDIA's Multi-Process Service.

Without it they take turns, and a model that fills the GPU gains nothing from a neighbour.
"""

import errno
import os
import socket
from collections.abc import Mapping
from pathlib import Path

DEFAULT_PIPE_DIRECTORY = "/tmp/nvidia-mps"


def mps_pipe_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the pipe directory of the MPS control daemon that listens, or None: none does.

    CUDA asks the same: it connects to the socket ``control`` in ``CUDA_MPS_PIPE_DIRECTORY``,
    and goes on without MPS where nobody answers. A directory alone tells nothing: a daemon
    that ended leaves it behind.
    """
    if not hasattr(socket, "AF_UNIX"):
        return None  # MPS is Linux's
    folder = Path(environ.get("CUDA_MPS_PIPE_DIRECTORY") or DEFAULT_PIPE_DIRECTORY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(folder / "control"))
        except OSError as error:
            # Another kind of socket, or one that is not for us: somebody listens.
            return folder if error.errno in (errno.EPROTOTYPE, errno.EAGAIN) else None
    return folder
