"""Write the report of an experiment again, or compare several on one page.

python -m tune_adaptive report results/first
python -m tune_adaptive report results/A results/B results/C --out comparison
"""

import gc
from pathlib import Path
from typing import Annotated

import typer

from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.errors import InputError
from tune_adaptive.report.compare import write_comparison
from tune_adaptive.report.write import write_report
from tune_adaptive.system.console import run_command, tell_damage


def main(
    folders: Annotated[list[Path], typer.Argument(help="Experiments' folders.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the comparison of several; the present one.")
    ] = None,
) -> None:
    """Write an experiment's report again from its ledger, or compare several experiments."""
    several = len(folders) > 1
    if out is not None and not several:
        raise InputError(f"--out {out}: one experiment's report is written into its own folder")
    analyses = [Analysis(folder) for folder in folders]
    gc.freeze()  # thousands of rows that stay: nothing to collect, whoever asks for it
    for analysis in analyses:
        tell_damage(analysis.folder, analysis.history.damage)
    for path in write_comparison(analyses, out or Path()) if several else write_report(analyses[0]):
        typer.echo(path)


if __name__ == "__main__":
    run_command(main)
