"""A driver that is killed or asked to end: nothing is lost and the search goes on."""

import random
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.chaos.search import SMALL, Search, checked, ended
from tests.chaos.table import Record, Row, lost_epochs
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.analysis.history import Run

pytestmark = pytest.mark.slow

KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
NUM_KILLS = 4


def told(run: Run) -> object:
    losses = [(e.epoch, e.train_loss, e.val_loss, e.lrs) for e in run.epochs]
    return run.spec, run.status, losses, run.last and run.last.test_loss


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """What the small search comes to where nothing happens."""
    folder = tmp_path_factory.mktemp("whole")
    ended(Search(folder, *SMALL))
    return [told(run) for run in Analysis(folder / "hurt").runs]


def test_a_driver_killed_at_random_times(
    tmp_path: Path, record: Record, whole: list[object]
) -> None:
    rng = random.Random(0)
    search = Search(tmp_path, *SMALL)
    for _ in range(NUM_KILLS):
        search.wait_for(rng.randint(1, 3))
        try:
            search.process.wait(timeout=rng.uniform(0, 0.5))
        except subprocess.TimeoutExpired:
            search.kill()
        search = Search(tmp_path)
    ended(search)
    analysis = checked(search.folder)
    assert analysis.history.num_sessions == NUM_KILLS + 1
    assert [told(run) for run in analysis.runs] == whole
    lost = lost_epochs(search.folder)
    record(Row("driver: SIGKILL at a random time", NUM_KILLS, NUM_KILLS, lost, 0))


def test_a_search_that_is_asked_to_end_loses_nothing(
    tmp_path: Path, record: Record, whole: list[object]
) -> None:
    search = Search(tmp_path, *SMALL)
    for kind in KINDS:
        search.wait_for(3)
        started = psutil.Process(search.process.pid).children(recursive=True)
        search.process.send_signal(kind)
        code, said, error = search.end()
        assert (code, error) == (4, "interrupted\n")
        assert f"--resume {search.folder}" in said
        assert psutil.wait_procs(started, timeout=10)[1] == []
        search = Search(tmp_path)
    ended(search)
    assert [told(run) for run in checked(search.folder).runs] == whole
    assert lost_epochs(search.folder) == 0
    for kind in KINDS:
        record(Row(f"driver: {kind.name}", 1, 1, 0, 0))


def test_a_torn_checkpoint_is_no_checkpoint(
    tmp_path: Path, record: Record, whole: list[object]
) -> None:
    search = Search(tmp_path, *SMALL)
    while not (kept := list((search.folder / "checkpoints").glob("*.safetensors"))):
        assert search.process.poll() is None
    search.kill()
    [torn] = kept
    torn.write_bytes(torn.read_bytes()[:-1])
    search = Search(tmp_path)
    ended(search)
    assert [told(run) for run in checked(search.folder).runs] == whole
    record(Row("checkpoint: torn", 1, 1, lost_epochs(search.folder), 0))
