"""The reference experiments: what of them is kept, and the tables that are made of it.

    python benchmarks/reference.py publish results/mnist-cnn
    python benchmarks/reference.py rewrite
    python benchmarks/reference.py tables

The first keeps an ended experiment in ``results/reference/``, without weights and recordings. The
second analyses every one that is kept anew, from its ledger, and writes its report again. The third
writes every ``<!-- table: NAME -->`` of ``docs/results.md`` and of
``results/reference/README.md`` anew, and ``docs/images/answer.svg``, from what is kept
(``reference_tables.py``, ``reference_figure.py``).
"""

import gzip
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer
from reference_figure import draw
from reference_tables import ASKED, TABLES, Experiment, read

import tune_adaptive
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.records.plan import STUDIED

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "results" / "reference"
PAGES = (ROOT / "docs" / "results.md", KEPT / "README.md")
ANSWER = ROOT / "docs" / "images" / "answer.svg"
FILES = (
    *("plan.toml", "verdict.json", "report.html", "report.md"),
    *("trials.parquet", "runs.parquet", "epochs.parquet"),
)
MAX_BYTES = 5_000_000

app = typer.Typer(add_completion=False)


# ------------------------------------------------------------------------ what is kept


@app.command()
def publish(folders: list[Path]) -> None:
    """Keep ended experiments of one task each."""
    for folder in folders:
        check(Analysis(folder))
        with tempfile.TemporaryDirectory() as made:
            kept = Path(made) / folder.name
            copy(folder, kept)
            for path in kept.rglob("*"):
                if path.stat().st_size > MAX_BYTES:
                    raise SystemExit(
                        f"{path.name}: {path.stat().st_size:,} bytes: too many to keep"
                    )
            shutil.rmtree(KEPT / folder.name, ignore_errors=True)
            shutil.copytree(kept, KEPT / folder.name)


@app.command()
def rewrite() -> None:
    """Analyse every experiment that is kept anew; write its report again."""
    for kept in sorted(path.parent for path in KEPT.glob("*/plan.toml")):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made) / kept.name
            shutil.copytree(kept, folder)
            packed = (folder / "ledger.jsonl.gz").read_bytes()
            (folder / "ledger.jsonl").write_bytes(gzip.decompress(packed))
            tune_adaptive.Experiment(folder).write()
            for name in ("verdict.json", "report.html", "report.md"):
                shutil.copy(folder / name, kept)
            shutil.copytree(folder / "figures", kept / "figures", dirs_exist_ok=True)
        print(kept)


def check(analysis: Analysis) -> None:
    """Refuse what the tables cannot show, or nobody should read."""
    history, plan = analysis.history, analysis.plan
    for problem, is_so in (
        ("it has not ended", not history.closed),
        ("it is exploratory", bool(history.exploratory)),
        ("its audit is broken", bool(analysis.breaches)),
        ("it has several tasks", len(plan.tasks) != 1),
        ("it lacks a schedule", not {STUDIED, *ASKED} <= set(plan.schedules)),
        ("an arm has no final runs", len(analysis.arms) != len(plan.schedules)),
        ("its command names a folder of one machine", bool(re.search(" /(?!tmp/)", plan.command))),
    ):
        if is_so:
            raise SystemExit(f"{analysis.folder}: {problem}")


def copy(folder: Path, kept: Path) -> None:
    """Copy what is kept of ``folder``."""
    no_weights = shutil.ignore_patterns("*.safetensors")
    for name in ("figures", "best"):
        shutil.copytree(folder / name, kept / name, ignore=no_weights)
    for name in FILES:
        shutil.copy(folder / name, kept)
    ledger = gzip.compress((folder / "ledger.jsonl").read_bytes(), mtime=0)
    (kept / "ledger.jsonl.gz").write_bytes(ledger)


# ------------------------------------------------------------------------- the pages


def filled(page: str, experiments: Sequence[Experiment]) -> str:
    """Return a page with its tables made anew."""

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}\n\n{TABLES[found[2]](experiments)}\n\n{found[3]}"

    return re.sub(r"(<!-- table: (\w+) -->).*?(<!-- end -->)", made, page, flags=re.S)


@app.command()
def tables() -> None:
    """Write the tables of both pages, and the figure."""
    experiments = read(KEPT)
    for path in PAGES:
        path.write_text(filled(path.read_text(encoding="utf-8"), experiments), encoding="utf-8")
    ANSWER.write_text(draw(experiments), encoding="utf-8")


if __name__ == "__main__":
    app()
