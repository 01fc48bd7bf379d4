"""Write the best configurations again, or check one exported file.

python -m tune_adaptive export results/NAME          writes best/ again from the ledger
python -m tune_adaptive export best/X/adaptive.toml  checks one file and shows it
"""

from pathlib import Path
from typing import Annotated

import typer

from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.report.best import load_schedule
from tune_adaptive.report.export import export
from tune_adaptive.system.console import printable, run_command, tell_damage


def main(
    path: Annotated[Path, typer.Argument(help="An experiment's folder, or one best/*.toml.")],
) -> None:
    """Write an experiment's best configurations again, or check one exported file."""
    if path.is_dir():
        analysis = Analysis(path)
        tell_damage(path, analysis.history.damage)
        for written in export(analysis):
            typer.echo(written)
        return
    best = load_schedule(path)
    typer.echo(printable(f"{best.task}: {best.configuration.schedule}"))
    for name, value in best.configuration.values().items():
        typer.echo(printable(f"  {name} = {value}"))


if __name__ == "__main__":
    run_command(main)
