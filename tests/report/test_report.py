"""The report of a finished experiment."""

import html.parser
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tune_adaptive.analysis import Analysis
from tune_adaptive.report import write_report

FIGURES = ("lr-traces", "learning-curves", "differences")


class Page(html.parser.HTMLParser):
    """Collects what a page would fetch, and checks that its tags are balanced."""

    VOID = ("meta", "link", "br", "use", "path", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and value[:1] != "#":
                self.fetched.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_everything_is_there(finished: Path) -> None:
    for name in ("report.html", "report.md", "verdict.json", "plan.toml", "ledger.jsonl"):
        assert (finished / name).stat().st_size > 0
    for kind in FIGURES:
        for suffix in ("svg", "png"):
            path = finished / "figures" / f"fashion_mnist_mini-cnn-{kind}.{suffix}"
            assert path.stat().st_size > 1000
    assert (finished / "studies.db").stat().st_size > 0


def test_the_page_fetches_nothing(finished: Path) -> None:
    page = Page((finished / "report.html").read_text(encoding="utf-8"))
    assert page.fetched == ["data:,"]
    assert page.open == []


def test_every_figure_has_a_text_alternative(finished: Path) -> None:
    text = (finished / "report.html").read_text(encoding="utf-8")
    assert text.count('role="img" aria-label="') == len(FIGURES)


def test_what_was_not_measured_is_said_and_null(finished: Path) -> None:
    assert "not measured" in (finished / "report.md").read_text(encoding="utf-8")
    document = json.loads((finished / "verdict.json").read_text())
    for arm in document["tasks"]["fashion_mnist_mini/cnn"]["arms"]:
        assert arm["gpu_util"] is None
        assert arm["gpu_mem_bytes"] is None


def test_too_few_seeds_are_said_to_be_too_few(finished: Path) -> None:
    document = json.loads((finished / "verdict.json").read_text())
    assert document["version"] == 1
    task = document["tasks"]["fashion_mnist_mini/cnn"]
    assert task["word"] == "inconclusive"
    assert "too few seeds for a verdict" in task["sentence"]
    assert task["sentence"] in (finished / "report.md").read_text(encoding="utf-8")


def test_tables_hold_every_run_once(finished: Path) -> None:
    analysis = Analysis(finished)
    trials, runs, epochs = (
        pd.read_parquet(finished / f"{name}.parquet") for name in ("trials", "runs", "epochs")
    )
    assert sorted([*trials["run_id"], *runs["run_id"]]) == sorted(r.spec.id for r in analysis.runs)
    assert set(trials["stage"]) == {"search"}
    assert set(runs["stage"]) == {"select", "final"}
    assert len(epochs) == sum(len(run.epochs) for run in analysis.runs)
    assert trials["test_accuracy"].isna().all(), "the search never saw the test split"


def test_a_report_can_be_made_again_without_ray_or_torch(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    for name in ("report.html", "report.md", "verdict.json"):
        (folder / name).unlink()
    code = (
        "import runpy, sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'ray'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "runpy.run_module('tune_adaptive.report', run_name='__main__')"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)
    for name in ("report.html", "report.md", "verdict.json"):
        assert (folder / name).read_text() == (finished / name).read_text()


def test_hostile_names_are_escaped(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    shutil.copytree(finished, folder)
    plan = folder / "plan.toml"
    text = plan.read_text().replace('command = "', 'command = "<script>alert(1)</script>', 1)
    plan.write_text(text)
    write_report(Analysis(folder))
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("command", ["report", "export"])
def test_a_folder_that_is_no_experiment_is_refused(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tune_adaptive", command, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "not an experiment" in done.stderr
    assert list(tmp_path.iterdir()) == []
