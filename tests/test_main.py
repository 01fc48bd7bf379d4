"""The ``tune-adaptive`` command: its list, its help, what a shell completes."""

import subprocess
import sys

import pytest

from tune_adaptive.__main__ import COMMANDS, main
from tune_adaptive.system.packages import meets


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tune-adaptive", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_it_lists_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in COMMANDS)
    assert run(monkeypatch) == (2 if meets("click>=8.2") else 0)
    assert run(monkeypatch, "stats") == 2
    assert "No such command 'stats'" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_describes_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(monkeypatch, name, "--help") == 0
    assert f"Usage: tune-adaptive {name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("tune-adaptive s", {"search", "status", "schedules"}),
        ("tune-adaptive search --tra", {"--train-size", "--track"}),
        ("tune-adaptive status --js", {"--json"}),
    ],
)
def test_a_shell_completes_commands_and_options(typed: str, completed: set[str]) -> None:
    place = str(len(typed.split()) - 1)
    asked = {"_TUNE_ADAPTIVE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": place}
    done = subprocess.run(
        [sys.executable, "-m", "tune_adaptive"], capture_output=True, text=True, env=asked
    )
    assert set(done.stdout.split()) == completed
