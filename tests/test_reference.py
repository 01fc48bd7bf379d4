"""The published experiments, and what the pages say of them."""

import gzip
import json
import re
import shutil
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.test_benchmarks import load
from tune_adaptive import load_schedule
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.report.write import verdict_document

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "results" / "reference"
RESULTS = ROOT / "docs" / "results.md"
NAMES = sorted(path.parent.name for path in KEPT.glob("*/verdict.json"))


def label(name: str, task: str) -> str:
    """What a table calls an experiment."""
    plans = {n: tomllib.loads((KEPT / n / "plan.toml").read_text(encoding="utf-8")) for n in NAMES}
    alike = [plan for plan in plans.values() if plan["tasks"][0]["name"] == task]
    return task if len(alike) == 1 else f"{task}, seed {plans[name]['seed']}"


def test_the_pages_say_what_the_verdicts_say(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = load("reference", monkeypatch)
    experiments = reference.read(KEPT)
    assert [each.plan["name"] for each in experiments] == NAMES
    for path in reference.PAGES:
        page = path.read_text(encoding="utf-8")
        named = re.findall(r"<!-- table: (\w+) -->", page)
        assert named == (["headline"] if path == RESULTS else list(dict.fromkeys(named)))
        assert set(named) == (set(reference.TABLES) if path.parent == KEPT else {"headline"})
        assert reference.filled(page, experiments) == page, f"{path}: make its tables again"


def test_the_figure_shows_what_the_verdicts_say(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, figure = (load(name, monkeypatch) for name in ("reference", "reference_figure"))
    told = figure.described(reference.read(KEPT))
    drawn = ElementTree.fromstring(reference.ANSWER.read_text(encoding="utf-8"))
    [description] = drawn.iterfind(".//{http://purl.org/dc/elements/1.1/}description")
    assert description.text == told, "python benchmarks/reference.py tables"
    page = RESULTS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*?) \| \d+ \| adaptive, (\w+) (\|.*)$", page, flags=re.M)
    assert len(rows) == 2 * len(NAMES)
    for name, of, cells in rows:
        means = re.findall(r"\**[+-]\d+\.\d\d \[[+-][^|]*\]\**", cells)
        assert f"{name}, {of}: {' | '.join(means)}" in told


def test_every_difference_in_the_readme_stands_in_the_reference_results() -> None:
    readme, page = (
        " ".join(path.read_text(encoding="utf-8").split())
        for path in (ROOT / "README.md", KEPT / "README.md")
    )
    differences = re.findall(r"[+-]\d+\.\d+ \[[+-]\d+\.\d+, [+-]\d+\.\d+\]", readme)
    assert len(differences) >= 3
    assert [each for each in differences if each not in page] == []


PAIRS = (
    *("cifar10/resnet18", "fashion_mnist/resnet18", "mnist/cnn", "imdb/lstm", "ag_news/bilstm"),
    *("imdb/bert", "ag_news/bert", "fashion_mnist_mini/cnn"),
)
EVERYWHERE = [
    *("adaptive", "resource_complexity", "feedback", "step", "exponential", "constant", "cyclic"),
]
EXPERTS = ["cosine", "linear", "wsd", "onecycle", "plateau", "greedy", "schedule_free"]


@pytest.mark.parametrize("table", ["accuracy", "untuned"])
def test_every_cell_of_the_pairs_and_schedules_has_an_interval_and_n(table: str) -> None:
    page = (KEPT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- table: {table} -->\n\n(.*?)\n\n<!-- end -->", page, flags=re.S)
    assert found is not None
    all_pairs, experts = (
        [[cell.strip() for cell in row.strip("|").split("|")] for row in part.splitlines()]
        for part in found[1].split("\n\n")
    )
    for (head, _, *rows), schedules in ((all_pairs, EVERYWHERE), (experts, EXPERTS)):
        assert [row[0] for row in rows] == schedules
        assert all(re.search(r", n = (8|10)$", column) for column in head[1:])
        numbers = [cell for row in rows for cell in row[1:]]
        assert len(numbers) == len(rows) * (len(head) - 1)
        assert all(re.fullmatch(r"\d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\]", cell) for cell in numbers)
    assert {column.split(",")[0] for column in all_pairs[0][1:]} == set(PAIRS)
    assert len({column.split(",")[0] for column in experts[0][1:]}) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_the_headline_is_the_sentence_of_the_report(name: str) -> None:
    verdict = json.loads((KEPT / name / "verdict.json").read_text(encoding="utf-8"))
    page = RESULTS.read_text(encoding="utf-8")
    for task, told in verdict["tasks"].items():
        said = re.search(r"minus (\w+) (\S+) points (\[.*?\]), n = (\d+): (\w+)", told["sentence"])
        assert said is not None
        [row] = re.findall(
            rf"^\| {label(name, task)} \| {said[4]} \| .* {said[5]} \|$", page, flags=re.M
        )
        assert f"| {said[1]}: {said[2]} {said[3]} |" in row.replace("*", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_is_what_its_ledger_says(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(KEPT / name / "plan.toml", folder)
    (folder / "ledger.jsonl").write_bytes(
        gzip.decompress((KEPT / name / "ledger.jsonl.gz").read_bytes())
    )
    analysis = Analysis(folder)
    assert analysis.history.closed
    assert [check.finding for check in analysis.breaches] == []
    kept = (KEPT / name / "verdict.json").read_text(encoding="utf-8")
    assert rounded(json.dumps(verdict_document(analysis))) == rounded(kept)


def rounded(text: str) -> Any:
    """Read JSON; another machine may add up in another order."""
    return json.loads(text, parse_float=lambda number: round(float(number), 9))


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_has_its_configuration(name: str) -> None:
    verdict = json.loads((KEPT / name / "verdict.json").read_text(encoding="utf-8"))
    for task, told in verdict["tasks"].items():
        for arm in told["arms"]:
            path = KEPT / name / "best" / task.replace("/", "-") / f"{arm['schedule']}.toml"
            assert asdict(load_schedule(path).configuration) == arm["configuration"]


def test_nothing_that_is_kept_is_large() -> None:
    sizes = {path: path.stat().st_size for path in KEPT.rglob("*") if path.is_file()}
    assert {path: size for path, size in sizes.items() if size > 5_000_000} == {}
