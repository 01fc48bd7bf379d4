"""Signals that ask the process to end, sent to this very process."""

import io
import os
import signal
from pathlib import Path

import pytest

from tune_adaptive import search
from tune_adaptive.system import interrupts
from tune_adaptive.system.console import run_command
from tune_adaptive.system.interrupts import (
    deferred,
    interruptible,
    on_interrupt,
    withheld_from_children,
)

KINDS = [
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1),
    *(signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU),
]


def send(kind: signal.Signals) -> None:
    os.kill(os.getpid(), kind)


@pytest.fixture(autouse=True)
def nothing_changes() -> object:
    before = [signal.getsignal(kind) for kind in KINDS]
    yield None
    assert [signal.getsignal(kind) for kind in KINDS] == before


@pytest.mark.parametrize("kind", KINDS)
def test_every_signal_that_asks_for_an_end_interrupts(kind: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        send(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_library_cannot_take_a_signal_away(kind: signal.Signals) -> None:
    """As Ray takes SIGTERM when it starts, and Tune SIGUSR1."""
    taken: list[int] = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.signal(kind, lambda number, frame: taken.append(number))
        send(kind)
    assert taken == []


def test_other_signals_are_anybodys() -> None:
    before = signal.getsignal(signal.SIGCHLD)
    with interruptible():
        assert signal.signal(signal.SIGCHLD, signal.SIG_IGN) == before
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("kind", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_what_is_ignored_stays_ignored(kind: signal.Signals) -> None:
    """``nohup`` ignores SIGHUP, and a shell SIGINT of what it runs in the background."""
    before = signal.signal(kind, signal.SIG_IGN)
    try:
        with interruptible():
            send(kind)
    finally:
        signal.signal(kind, before)


def test_a_persons_own_handler_stays() -> None:
    own: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: own.append(number))
    try:
        with interruptible():
            send(signal.SIGUSR2)
        assert own == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_deferred_comes_to_its_end(kind: signal.Signals) -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), interruptible(), deferred():
        send(kind)
        done.append("all of it")
    assert done == ["all of it"]


def test_a_second_signal_interrupts_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), deferred():
        send(signal.SIGTERM)
        send(signal.SIGHUP)
        raise AssertionError("it went on")


def test_what_happened_inside_is_what_is_raised() -> None:
    with pytest.raises(ValueError, match="first"), deferred():
        send(signal.SIGTERM)
        raise ValueError("first")


def test_the_reaction_outside_holds_again_after_the_one_inside() -> None:
    inside: list[bool] = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        with on_interrupt(lambda: inside.append(True)):
            send(signal.SIGUSR1)
        assert inside == [True]
        send(signal.SIGUSR1)


def test_children_do_not_receive_warnings_and_this_process_does() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(KeyboardInterrupt), deferred(), withheld_from_children():
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])  # which children inherit
        send(signal.SIGUSR1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert blocked >= {signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
    assert not blocked & {signal.SIGTERM, signal.SIGKILL}


def told(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["tune_adaptive.search", *arguments])
    with pytest.raises(SystemExit) as end:
        run_command(search.main)
    return int(end.value.code or 0), *capsys.readouterr()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGUSR1])
def test_before_the_plan_nothing_was_begun(
    kind: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(search, "prepare", lambda request: send(kind))
    code, said, error = told(["--results-dir", str(tmp_path)], monkeypatch, capsys)
    assert (code, said, error) == (4, "", "interrupted: nothing was begun\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGUSR1])
def test_while_the_folder_is_made_it_is_made_whole_and_can_be_resumed(
    kind: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tune_adaptive.records.plan import Plan

    write = Plan.write

    def interrupted(plan: Plan, path: Path) -> str:
        send(kind)
        return write(plan, path)

    monkeypatch.setattr(Plan, "write", interrupted)
    arguments = ["--results-dir", str(tmp_path), "--name", "cut", "--train-size", "320"]
    arguments += ["--precision", "fp32", "--signals", "steady", "--quiet", "--nice", "3"]
    code, said, error = told(arguments, monkeypatch, capsys)
    assert (code, error) == (4, "interrupted\n")
    command = f"python -m tune_adaptive.search --resume {tmp_path / 'cut'} --nice 3 --quiet"
    assert said == f"to resume: {command}\n"
    assert Plan.read(tmp_path / "cut" / "plan.toml").name == "cut"


def test_a_terminal_that_is_gone_changes_nothing_of_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it was closed, which sends SIGHUP."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    (tmp_path / "plan.toml").touch()
    monkeypatch.setattr("sys.stdout", Gone())
    monkeypatch.setattr("sys.stderr", Gone())
    monkeypatch.setattr(search, "reopened", lambda *given: send(signal.SIGHUP))
    monkeypatch.setattr("sys.argv", ["tune_adaptive.search", "--resume", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        run_command(search.main)
    assert end.value.code == 4


def test_while_the_report_is_written_the_search_is_finished(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Ended:
        folder, address = finished, None

        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    monkeypatch.setattr(search, "prepare", lambda request: Ended())
    monkeypatch.setattr(search, "show_plan", lambda *arguments: None)
    monkeypatch.setattr(search, "_carry_out", lambda *arguments: send(signal.SIGTERM))
    monkeypatch.setattr(Ended, "plan", None, raising=False)
    code, said, error = told([], monkeypatch, capsys)
    assert (code, error) == (
        4,
        "interrupted: the search is finished; its report may be incomplete\n",
    )
    assert said.splitlines() == [
        f"to write its report again: python -m tune_adaptive report {finished}",
        f"to export its schedules again: python -m tune_adaptive export {finished}",
    ]


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_ray_closes_interrupts_after_it_has(
    kind: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tune_adaptive.ray_backend import cluster

    closed: list[str] = []

    def shut_down() -> None:
        send(kind)
        send(kind)
        closed.append("closed")

    monkeypatch.setattr(cluster.ray, "init", lambda **options: None)
    monkeypatch.setattr(cluster.ray, "shutdown", shut_down)
    with pytest.raises(KeyboardInterrupt), cluster.own_ray(1, 0, 2**20):
        pass
    with pytest.raises(ValueError, match="first"), cluster.own_ray(1, 0, 2**20):
        raise ValueError("first")
    assert closed == ["closed", "closed"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_while_ray_starts_interrupts_once_it_has_and_closes_it(
    kind: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tune_adaptive.ray_backend import cluster

    done: list[str] = []

    def start(**options: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: done.append("Ray's own handler"))
        send(kind)
        done.append("started")

    monkeypatch.setattr(cluster.ray, "init", start)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: done.append("closed"))
    with pytest.raises(KeyboardInterrupt), cluster.own_ray(1, 0, 2**20):
        done.append("used")
    assert done == ["started", "closed"]


def test_signals_are_ignored_while_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[object] = []
    monkeypatch.setattr(interrupts.atexit, "register", ends.append)
    interrupts.ignore_at_exit()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ends[0]()  # type: ignore[operator]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        for kind in KINDS:
            signal.signal(kind, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_was_there_before_python_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a preloaded library sets one: Python reads it as None, and could not put it back."""
    getsignal = signal.getsignal
    unknown = (signal.SIGTERM, signal.SIGUSR1)
    monkeypatch.setattr(
        signal, "getsignal", lambda kind: None if kind in unknown else getsignal(kind)
    )
    with pytest.raises(KeyboardInterrupt), interruptible():
        send(signal.SIGHUP)


def test_what_a_module_imported_meanwhile_works_again_afterwards() -> None:
    with interruptible():
        set_signal = signal.signal
    try:
        set_signal(signal.SIGUSR1, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        set_signal(signal.SIGUSR1, signal.SIG_DFL)


def test_what_is_no_handler_is_refused_meanwhile_too() -> None:
    with interruptible(), pytest.raises(TypeError):
        signal.signal(signal.SIGTERM, "ignore")  # type: ignore[arg-type]


def test_who_replaces_the_function_meanwhile_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", signal.signal)  # put back when the test ends

    def a_debuggers(kind: int, handler: object) -> object:
        return handler

    with interruptible():
        signal.signal = a_debuggers  # type: ignore[assignment]
    assert signal.signal is a_debuggers
