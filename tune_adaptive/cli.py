"""What the command lines share: errors become one clear message and an exit code."""

import functools
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from tune_adaptive.errors import EXIT_INTERRUPTED, EnvironmentFault, InputError, NoSuccessfulTrial


def run_command(command: Callable[..., None]) -> None:
    """Run ``command`` on the command line's arguments.

    SIGTERM, by which Slurm and Kubernetes end a job, interrupts as Ctrl-C does.

    Exit codes: 0 done; 2 bad input; 3 environment; 4 interrupted; 5 no successful trial.
    """

    @functools.wraps(command)
    def guarded(*args: object, **options: object) -> None:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            command(*args, **options)
        except (InputError, EnvironmentFault, NoSuccessfulTrial) as error:
            for line in str(error).splitlines():
                print(f"error: {printable(line)}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from error
        finally:
            signal.signal(signal.SIGTERM, before)

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(guarded)
    app()


def tell_damage(folder: Path, damage: Iterable[str]) -> None:
    """Warn of every row of a ledger that could not be used."""
    for each in damage:
        print(f"warning: {folder / 'ledger.jsonl'}: {printable(each)}", file=sys.stderr)


def printable(text: str) -> str:
    """Replace what a terminal would obey and not show, such as a stranger's escape sequences."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
