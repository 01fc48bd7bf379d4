"""Write the report of a finished experiment again: ``python -m tune_adaptive.report DIR``."""

from pathlib import Path
from typing import Annotated

import typer

from tune_adaptive.analysis import Analysis
from tune_adaptive.cli import run_command
from tune_adaptive.report import write_report


def main(folder: Annotated[Path, typer.Argument(help="An experiment's folder.")]) -> None:
    """Write an experiment's report, verdict, figures and tables again from its ledger."""
    for path in write_report(Analysis(folder)):
        typer.echo(path)


if __name__ == "__main__":
    run_command(main)
