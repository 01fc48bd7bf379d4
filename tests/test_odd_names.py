"""Names that mean something in a URL, a template, a glob or a shell, wherever paths are written."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy

from tests.protocol.test_arms import arm
from tests.training.test_checkpoints import spec
from tune_adaptive.protocol.arms import Arms
from tune_adaptive.records import ledger
from tune_adaptive.system.files import make_inside, refuse_links, write_whole
from tune_adaptive.system.packages import meets
from tune_adaptive.training.checkpoints import Checkpoint, CheckpointStore
from tune_adaptive.watch import trackers
from tune_adaptive.watch.stores import knock, sqlite_url

ODD = [
    "My%20Drive",
    "a?b",
    "a#b",
    "a{b}",
    "{SCHEMA_VERSION}",
    "a::b",
    "a[b]",
    "a*b",
    "~x",
    "a b",
    "a'b\"c",
    "a\nb",
    "é",
    "文",
    "a\\b",
    "a&b=c;d",
    "file:",
    "s3:",
    "%s",
    "$HOME",
    "-x",
    "e\u0301",
    "~My%20Drive?#{SCHEMA_VERSION}::[a]* '\"\n\\é;&=$HOME",
]
"""None of them stands for itself everywhere."""
KEPT_RUN = spec("step")


def studies(folder: Path) -> None:
    Arms([arm("step")]).save_studies(folder / "studies.db")
    with sqlite3.connect(folder / "studies.db") as database:
        assert database.execute("select count(*) from studies").fetchone() == (1,)
    database.close()


def checkpoints(folder: Path) -> None:
    store = CheckpointStore(str(folder / "checkpoints"))
    store.open()
    store.write(Checkpoint(KEPT_RUN, 2, {"a": 1}))
    kept = CheckpointStore(store.root).read(KEPT_RUN)  # as a worker opens it
    assert kept is not None
    assert kept.num_epochs == 2
    store.leave_last_words("r", "so")
    assert store.take_last_words("r") == "so"
    store.ask_to_stop()
    assert (folder / "checkpoints" / "stop").is_file()
    store.remove(KEPT_RUN.id)
    assert store.read(KEPT_RUN) is None


def tensorboard(folder: Path) -> None:
    plan: Any = SimpleNamespace(name="x", tasks=())
    tracker = trackers.TensorBoard(plan, folder / "x", "")
    tracker.started(KEPT_RUN, 0)
    tracker.epoch(KEPT_RUN, 1, 1.0, {"lr": 0.1})
    tracker.close()
    assert list((folder / "x" / "tensorboard" / KEPT_RUN.id).iterdir())


def mlflow(folder: Path) -> None:
    """Its store is what SQLAlchemy finds by the URL."""
    path = folder / "mlflow.db"
    if "?" in str(path) and not meets("sqlalchemy>=2.1"):
        with pytest.raises(OSError, match=r"SQLAlchemy before 2\.1"):
            sqlite_url(path)
        pytest.skip("SQLAlchemy before 2.1 cannot: it was refused")
    knock(sqlite_url(path))
    engine = sqlalchemy.create_engine(sqlite_url(path))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table t (x int)"))
    engine.dispose()
    assert path.is_file()


def locked(folder: Path) -> None:
    (folder / "plan.toml").write_text("")
    with ledger.locked(folder):
        assert (folder / "lock.owner").is_file()


def files(folder: Path) -> None:
    write_whole(make_inside(folder, "best") / "x.toml", "a")
    refuse_links(folder)
    assert (folder / "best" / "x.toml").read_text() == "a"


WRITERS = (checkpoints, tensorboard, mlflow, locked, files)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("write", "name"),
    [
        *((write, name) for write in WRITERS for name in ODD),
        *((studies, name) for name in ("My%20Drive", "a?b", ODD[-1])),  # half a second each
    ],
    ids=lambda value: value.__name__ if callable(value) else ascii(value),
)
def test_what_is_written_is_in_the_folder_of_that_name(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    write(folder)
    assert list(tmp_path.iterdir()) == [folder], "nothing lies in another place"
    assert any(folder.iterdir())
