"""The report of a finished experiment."""

import html.parser
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import pandas as pd
import pytest

from tests.analysis.maker import honest
from tune_adaptive.__main__ import main
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.errors import EnvironmentFault
from tune_adaptive.records import ledger
from tune_adaptive.records.plan import hash_file
from tune_adaptive.records.runs import Configuration
from tune_adaptive.records.space_files import space_from_dict
from tune_adaptive.report.compare import write_comparison
from tune_adaptive.report.export import export
from tune_adaptive.report.write import write_report

FIGURES = (
    "tuning-cost",
    "differences",
    "time-to-target",
    "learning-curves",
    "slices",
    "parallel",
)


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
        path = finished / "figures" / f"fashion_mnist_mini-cnn-{kind}.svg"
        assert path.stat().st_size > 1000
        assert f"](figures/{path.name})" in (finished / "report.md").read_text(encoding="utf-8")
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
    schema = files("tune_adaptive.report").joinpath("verdict.schema.json").read_text()
    jsonschema.validate(document, json.loads(schema))
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
    assert set(runs["stage"]) == {"select", "final", "ablation", "contention"}
    assert len(epochs) == sum(len(run.epochs) for run in analysis.runs)
    assert trials["test_metric"].isna().all(), "the search never saw the test split"


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
        "runpy.run_module('tune_adaptive.commands.report', run_name='__main__')"
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
    for line in (folder / "report.md").read_text(encoding="utf-8").splitlines():
        assert "<script>" not in line or line.startswith("    "), "but in a block of code"
    assert "exploratory" in page, "the plan was edited"


SECTIONS = ("cost", "audit", "task-1", "across", "runs", "methods")


@pytest.mark.browser
def test_a_browser_shows_every_section_and_asks_for_nothing(finished: Path, tmp_path: Path) -> None:
    """In Debian's Chromium, as wide as a laptop and as a phone."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium is not None, "apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 900})
            told: list[str] = []
            asked: list[str] = []
            page.on("console", lambda message: told.append(message.text))  # noqa: B023
            page.on("pageerror", lambda error: told.append(str(error)))  # noqa: B023
            page.on("request", lambda request: asked.append(request.url))  # noqa: B023
            page.goto((finished / "report.html").as_uri())
            assert told == []
            assert [url for url in asked if not url.startswith("data:")] == [
                (finished / "report.html").as_uri()
            ]
            for section in SECTIONS:
                assert page.locator(f"h2#{section}").is_visible()
            assert page.locator("figure svg").count() == len(FIGURES)
            assert page.evaluate("document.documentElement.scrollWidth") == width
            page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
            page.close()
        browser.close()


def renamed(finished: Path, folder: Path, edit: tuple[str, str]) -> Path:
    """Copy an experiment, and edit its plan with everything that knows of it."""
    shutil.copytree(finished, folder)
    plan, ledger = folder / "plan.toml", folder / "ledger.jsonl"
    before = hash_file(plan)
    text = plan.read_text()
    assert edit[0] in text
    plan.write_text(text.replace(edit[0], edit[1], 1))
    ledger.write_text(ledger.read_text().replace(before, hash_file(plan)))
    return folder


Compare = Callable[..., tuple[int, str]]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Compare:
    """Compare experiments by the command line; the exit code, and what it told."""

    def compare(*folders: Path, out: Path) -> tuple[int, str]:
        command = ["tune-adaptive", "report", *map(str, folders), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return compare


def test_several_experiments_are_compared_on_one_page(
    finished: Path, tmp_path: Path, compared: Compare
) -> None:
    other = renamed(finished, tmp_path / "other", ('name = "small"', 'name = "other"'))
    code, told = compared(finished, other, out=tmp_path / "page")
    assert code == 0, told
    text = (tmp_path / "page" / "comparison.md").read_text(encoding="utf-8")
    assert "small: inconclusive" in text
    assert "over the experiments" in text
    assert "not independent" in text, "both have seed 0"
    page = Page((tmp_path / "page" / "comparison.html").read_text(encoding="utf-8"))
    assert (page.fetched, page.open) == (["data:,"], [])
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match=r"--out .*file/page: cannot be made: Not a dir"):
        write_comparison([Analysis(finished), Analysis(other)], tmp_path / "file" / "page")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (('name = "small"', 'name = "small" # '), "given twice"),
        (("num_epochs = 2", "num_epochs = 3"), "another T in each"),
        (("budget = 2.0", "budget = 9.0"), "another search budget in each"),
        (('augment = "none"', 'augment = "shift"'), "another augmentation in each"),
        (('"step",', ""), None),
    ],
)
def test_what_cannot_be_compared_is_refused(
    finished: Path,
    tmp_path: Path,
    compared: Compare,
    edit: tuple[str, str],
    message: str | None,
) -> None:
    other = renamed(finished, tmp_path / "other", edit)
    if message != "given twice":
        other = renamed(other, tmp_path / "named", ('name = "small"', 'name = "other"'))
    code, told = compared(finished, other, out=tmp_path / "page")
    if message is None:  # what all have is compared
        assert "| step |" not in (tmp_path / "page" / "comparison.md").read_text(encoding="utf-8")
        return
    assert code == 2
    assert message in told
    assert not (tmp_path / "page").exists()


def test_a_damaged_ledger_is_told_and_reported(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(finished, folder)
    (folder / "planted.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/planted'\ntR.")
    ledger = folder / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    lines[9] = b"{not json\n"
    ledger.write_bytes(b"".join(lines) + b'{"event": "cl')
    done = subprocess.run(
        [sys.executable, "-m", "tune_adaptive", "report", str(folder)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "line 10 cannot be read" in done.stderr
    assert f"line {len(lines) + 1} torn" in done.stderr
    assert "line 10 cannot be read" in (folder / "report.md").read_text(encoding="utf-8")


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


def test_values_of_mixed_types_that_were_recorded_before_are_reported(tmp_path: Path) -> None:
    """Earlier versions took such spaces; names are anybody's, whatever matplotlib makes of them."""
    maker = honest(tmp_path)
    mixed = {"type": "categorical", "choices": [0.3, "0.1"], "default": 0.3}
    dollars = {"type": "categorical", "choices": ["$x^$", "$"], "default": "$"}
    own = {"gamma": mixed, "status": mixed, "with $ and ^": dollars}
    [task] = maker.plan().tasks
    spaces = {
        schedule: space_from_dict(space.to_dict() | own, "test")
        for schedule, space in task.spaces.items()
    }
    maker.plan_fields["tasks"] = (replace(task, spaces=spaces),)
    parameters = {"gamma": "0.1", "status": 0.3, "with $ and ^": "$x^$"}

    def recorded(configuration: Configuration) -> Configuration:
        return replace(configuration, parameters=parameters)

    for number, event in enumerate(maker.events):
        if isinstance(event, ledger.RunStarted) and event.run.arm[1] == "adaptive":
            run = replace(event.run, configuration=recorded(event.run.configuration))
            maker.events[number] = replace(event, run=run)
        elif isinstance(event, ledger.Selected) and event.configuration.schedule == "adaptive":
            maker.events[number] = replace(event, configuration=recorded(event.configuration))
    for number, event in enumerate(maker.events):  # and one trial of the other kind
        if isinstance(event, ledger.RunStarted) and event.run.id == "search-adaptive-0001":
            configuration = replace(event.run.configuration, parameters=parameters | {"gamma": 0.3})
            run = replace(event.run, configuration=configuration)
            maker.events[number] = replace(event, run=run)
    analysis = maker.analysis()
    write_report(analysis)
    trials = pd.read_parquet(tmp_path / "trials.parquet").set_index("run_id")
    assert set(trials["status"]) == {"completed"}
    assert trials.loc["search-adaptive-0000", "parameters.status"] == 0.3
    assert list(trials.loc["search-adaptive-0000":"search-adaptive-0001", "gamma"]) == [  # type: ignore[misc]
        *("0.1", "0.3")
    ]
    assert [path for path in export(analysis) if path.stem == "adaptive"]


def test_where_no_run_varies_the_report_says_why_there_is_no_verdict(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    for number, event in enumerate(maker.events):
        if isinstance(event, ledger.EpochDone) and event.result.test_metric is not None:
            maker.events[number] = replace(event, result=replace(event.result, test_metric=0.1))
    _, report, verdict = write_report(maker.analysis())
    assert "- **no verdict**: tiny/linear: adaptive minus step +0.00" in report.read_text()
    assert "every run scored the same" in report.read_text()
    document = json.loads(verdict.read_text())
    jsonschema.validate(
        document, json.loads((files("tune_adaptive.report") / "verdict.schema.json").read_text())
    )
    assert document["tasks"]["tiny/linear"]["word"] is None
