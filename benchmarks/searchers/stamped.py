"""``python -m tune_adaptive.search`` with the times of its start-up: FILE, then its arguments."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

stamps = {"process": psutil.Process().create_time()}

from tune_adaptive import search  # noqa: E402
from tune_adaptive.protocol.run import run as protocol  # noqa: E402
from tune_adaptive.system.console import run_command  # noqa: E402


def stamp(name: str) -> None:
    """Note that a part has ended."""
    stamps[name] = time.time()
    Path(path).write_text(json.dumps(stamps), encoding="utf-8")


def prepare(*arguments: Any) -> Any:
    """Prepare, and note when it is done."""
    experiment = plain_prepare(*arguments)
    stamp("plan")
    return experiment


@contextlib.contextmanager
def cluster(*arguments: Any) -> Iterator[None]:
    """Start Ray, and note when it is up."""
    stamp("folder")
    with plain_cluster(*arguments):
        stamp("ray")
        yield


path = sys.argv.pop(1)
plain_prepare, search.prepare = search.prepare, prepare
plain_cluster, protocol.cluster = protocol.cluster, cluster
stamp("imports")
run_command(search.main)
