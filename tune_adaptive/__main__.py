"""The ``tune-adaptive`` command; ``python -m tune_adaptive`` is the same."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from tune_adaptive.system.console import run_command

COMMANDS = {
    "search": "Tune schedules, compare the best on fresh seeds, report and export.",
    "status": "Show how far an experiment is.",
    "report": "Write an experiment's report again, or compare several experiments.",
    "export": "Write an experiment's best configurations again, or check one.",
    "verify": "Train an exported configuration again on fresh seeds.",
    "doctor": "Report what this machine has and lacks.",
    "prefetch": "Fetch data sets and encoders for a machine without network.",
    "schedules": "Plot learning-rate schedules.",
}


def _command(name: str) -> Callable[..., None]:
    within = "tune_adaptive" if name == "search" else "tune_adaptive.commands"
    command: Callable[..., None] = importlib.import_module(f"{within}.{name}").main
    return command


def _run(name: str) -> None:
    sys.argv = [sys.argv[0], *sys.argv[2:]]
    run_command(_command(name), f"tune-adaptive {name}")


class _Commands(TyperGroup):
    """Imports a command's module when it is run or completed, and no other."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands' names, the most used first."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        """Return a command that runs as ``python -m`` would, and parses its own arguments."""
        if name not in COMMANDS:
            return None
        passed_on = {"ignore_unknown_options": True, "allow_extra_args": True}
        return TyperCommand(
            name,
            context_settings={**passed_on, "help_option_names": []},
            callback=lambda: _run(name),
            help=COMMANDS[name],
        )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; where a shell completes, the one with all its options."""
        name, command, rest = super().resolve_command(ctx, args)
        if ctx.resilient_parsing and command is not None:
            app = typer.Typer(add_completion=False)
            app.command()(_command(str(name)))
            command = typer.main.get_command(app)
        return name, command, rest


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _describe() -> None:
    """Judge learning-rate schedules on your training, within a budget."""


def main() -> None:
    """Run the command named by the first argument."""
    app(prog_name="tune-adaptive")


if __name__ == "__main__":
    main()
