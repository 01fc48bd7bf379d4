"""Write the report of an experiment again, or compare several on one page.

python -m tune_adaptive.report results/first
python -m tune_adaptive.report results/A results/B results/C --out comparison
"""

import gc
from pathlib import Path
from typing import Annotated

import typer

from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.cli import run_command, tell_damage
from tune_adaptive.report import write_comparison, write_report


def main(
    folders: Annotated[list[Path], typer.Argument(help="Experiments' folders.")],
    out: Annotated[Path, typer.Option(help="Folder of the comparison of several.")] = Path(),
) -> None:
    """Write an experiment's report again from its ledger, or compare several experiments."""
    analyses = [Analysis(folder) for folder in folders]
    gc.freeze()  # thousands of rows that stay: nothing to collect, whoever asks for it
    for analysis in analyses:
        tell_damage(analysis.folder, analysis.history.damage)
    several = len(analyses) > 1
    for path in write_comparison(analyses, out) if several else write_report(analyses[0]):
        typer.echo(path)


if __name__ == "__main__":
    run_command(main)
