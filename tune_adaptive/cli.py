"""What the command lines share: errors become one clear message and an exit code."""

import sys
from collections.abc import Callable

import typer

from tune_adaptive.errors import EXIT_INTERRUPTED, EnvironmentFault, InputError, NoSuccessfulTrial


def run_command(command: Callable[..., None]) -> None:
    """Run ``command`` on the command line's arguments.

    Exit codes: 0 done; 2 bad input; 3 environment; 4 interrupted; 5 no successful trial.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except (InputError, EnvironmentFault, NoSuccessfulTrial) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
