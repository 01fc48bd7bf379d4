"""What the tests share: one small Ray cluster a session, one finished experiment.

The package is imported where it is used: the process that hands out the tests needs none of it.
"""

import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings

# Two processes test beside each other: their threads must not spin while they wait for a core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Started in the background or by nohup, the tests would inherit that these are ignored.
for kind in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(kind) is signal.SIG_IGN:
        signal.signal(kind, signal.default_int_handler if kind is signal.SIGINT else signal.SIG_DFL)

settings.register_profile("tests", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first; skip what the oldest versions lack, where they are tested."""
    used: defaultdict[Path, set[str]] = defaultdict(set)
    for item in items:
        used[item.path].update(getattr(item, "fixturenames", ()))
    # Two processes take file after file: those that start Ray must not be what is left at the end,
    # and while one process makes the finished experiment, the other should not need it.
    num_users = Counter(item.path for item in items if "finished" in used[item.path])
    maker = max(num_users, key=lambda path: num_users[path], default=None)

    def turn(item: pytest.Item) -> int:
        of_file = used[item.path]
        needs_it = "finished" in of_file
        turns = (item.path == maker, "cluster" in of_file and not needs_it, needs_it)
        return turns.index(True) if True in turns else len(turns)

    items.sort(key=turn)
    if "OLDEST_VERSIONS" not in os.environ:
        return
    from tune_adaptive.schedules.requirements import REQUIREMENTS, is_installed

    lacking = {name: REQUIREMENTS[name] for name in REQUIREMENTS if not is_installed(name)}
    for item in items:
        names = getattr(getattr(item, "callspec", None), "params", {}).values()
        for name in lacking.keys() & {each for each in names if isinstance(each, str)}:
            item.add_marker(pytest.mark.skip(f"{name} needs {lacking[name]}"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray of this session's own, with one logical GPU; the engine uses it as it is."""
    from tune_adaptive.ray_backend.cluster import own_ray

    with own_ray(num_cpus=2, num_gpus=1, object_store_bytes=256 * 2**20):
        yield


def run_search(*arguments: str) -> int:
    """Run the search's command line in this process; return its exit code."""
    from tune_adaptive.search import main
    from tune_adaptive.system.console import run_command

    before = sys.argv
    sys.argv = ["tune_adaptive.search", *arguments]
    try:
        run_command(main)
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="session")
def search(cluster: None) -> Callable[..., int]:
    """The command line, on the session's cluster."""
    return run_search


@pytest.fixture(scope="session")
def finished(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Path:
    """The folder of a small finished experiment; read it, do not write into it.

    Processes that test beside each other share it: the first that needs it makes it.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return make_finished(request, tmp_path_factory.mktemp("results"))
    results = tmp_path_factory.getbasetemp().parent / "results"
    with FileLock(f"{results}.lock"):
        if not results.exists():
            folder = make_finished(request, tmp_path_factory.mktemp("results"))
            folder.parent.rename(results)
    return results / "small"


def make_finished(request: pytest.FixtureRequest, results: Path) -> Path:
    """Search, small as it is; return the experiment's folder."""
    code = request.getfixturevalue("search")(
        *("--results-dir", str(results), "--name", "small", "--epochs", "2", "--budget", "2"),
        *("--final-seeds", "2", "--precision", "fp32", "--signals", "steady"),
        *("--ablations", "--contention", "2x@40%", "--train-size", "512"),
    )
    assert code == 0
    return results / "small"
