"""What the command lines share: errors become one clear message and an exit code."""

import functools
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperOption

from tune_adaptive.errors import EXIT_INTERRUPTED, EnvironmentFault, InputError, NoSuccessfulTrial
from tune_adaptive.system.interrupts import ignore_at_exit, interruptible, on_interrupt

MIN_WIDTH, USUAL_WIDTH = 20, 80
"""Columns of a terminal: fewer hold no line, as the 0 of one whose size is unknown."""


def run_command(command: Callable[..., None], name: str | None = None) -> None:
    """Run ``command`` on the command line's arguments; ``name`` is what its help calls it.

    Every signal that asks a process to end interrupts as Ctrl-C does, until the process ends:
    SIGTERM, by which Slurm and Kubernetes end a job, SIGHUP, SIGUSR1 and their like. What a
    KeyboardInterrupt says is printed.

    Exit codes: 0 done; 2 bad input; 3 environment; 4 interrupted; 5 no successful trial.
    """

    @functools.wraps(command)
    def guarded(*args: object, **options: object) -> None:
        try:
            with interruptible():
                if asked:
                    raise KeyboardInterrupt
                command(*args, **options)
        except (InputError, EnvironmentFault, NoSuccessfulTrial) as error:
            for line in str(error).splitlines():
                _say(f"error: {printable(line)}")
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            _say(": ".join(["interrupted", *map(str, error.args)]))
            raise typer.Exit(EXIT_INTERRUPTED) from error

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(cls=_Once)(guarded)
    asked: list[bool] = []  # while the arguments are read
    with on_interrupt(lambda: asked.append(True)):
        try:
            app(prog_name=name)
        finally:
            ignore_at_exit()


def _say(line: str) -> None:
    with suppress(OSError):  # the terminal may be gone: SIGHUP says so
        print(line, file=sys.stderr)


def terminal(stderr: bool = False) -> Console:
    """Return the terminal, 80 columns wide where it says that it has next to none."""
    console = Console(stderr=stderr)
    if console.width >= MIN_WIDTH:
        return console
    return Console(stderr=stderr, width=USUAL_WIDTH, force_interactive=False)


class _Once(TyperCommand):
    """A command that refuses an option given twice, of which click would take the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line."""
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        once = [each for each in given if isinstance(each, TyperOption) and not each.multiple]
        twice = {each.opts[0] for each in once if once.count(each) > 1}
        if twice:
            for option in sorted(twice):
                print(f"error: {option} is given twice", file=sys.stderr)
            ctx.exit(InputError.exit_code)
        return super().parse_args(ctx, args)


def tell_damage(folder: Path, damage: Iterable[str]) -> None:
    """Warn of every row of a ledger that could not be used."""
    for each in damage:
        print(f"warning: {folder / 'ledger.jsonl'}: {printable(each)}", file=sys.stderr)


def printable(text: str) -> str:
    """Replace what a terminal would obey and not show, such as a stranger's escape sequences."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
