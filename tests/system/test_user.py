"""A user whom the system does not know has a home and a name."""

import getpass
import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from tune_adaptive.signals.node import Node
from tune_adaptive.system.user import own_folder, settle

NAMES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process as in ``docker run --user 12345``; what it sets is forgotten afterwards."""

    def unknown(who: object) -> None:
        raise KeyError(f"uid not found: {who}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


def test_a_user_without_an_entry_gets_a_home_of_their_own(nobody: Path) -> None:
    settle()
    assert Path.home() == nobody / f"tune-adaptive-{os.getuid()}"
    assert stat.S_IMODE(Path.home().stat().st_mode) == 0o700
    assert getpass.getuser() == f"uid{os.getuid()}"


def test_a_home_that_others_could_have_prepared_is_not_used(nobody: Path) -> None:
    prepared = own_folder()
    prepared.mkdir()
    prepared.chmod(0o777)
    settle()
    assert Path.home() != prepared
    assert Path.home().parent == nobody
    assert stat.S_IMODE(Path.home().stat().st_mode) == 0o700


def test_what_is_set_stays(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("LOGNAME", "ada")
    settle()
    assert (os.environ["HOME"], "USER" in os.environ) == ("/somewhere", False)


def test_without_any_temporary_folder_there_is_still_a_home(
    nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    settle()
    assert Path.home() == Path("/")


@pytest.mark.parametrize("name", ["../../etc", "a/b", ""])
def test_the_samplers_folder_is_not_named_by_a_variable(
    nobody: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("LOGNAME", name)
    assert Node()._path.parent == nobody / f"tune-adaptive-{os.getuid()}"
