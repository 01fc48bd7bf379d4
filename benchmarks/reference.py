"""The reference experiments: what of them is kept, and the tables that are made of it.

    python benchmarks/reference.py publish results/mnist-cnn
    python benchmarks/reference.py tables

The first keeps an ended experiment in ``results/reference/``, without weights and recordings. The
second writes every ``<!-- table: NAME -->`` of README.md and ``results/reference/README.md`` anew,
from the ``plan.toml`` and ``verdict.json`` of what is kept.
"""

import gzip
import json
import re
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.analysis.stats import STUDIED

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "results" / "reference"
PAGES = (ROOT / "README.md", KEPT / "README.md")
FILES = (
    *("plan.toml", "verdict.json", "report.html", "report.md"),
    *("trials.parquet", "runs.parquet", "epochs.parquet"),
)
MAX_BYTES = 5_000_000
ASKED = ("step", "exponential")  # the baselines that the question names

app = typer.Typer(add_completion=False)


# ------------------------------------------------------------------------ what is kept


@app.command()
def publish(folders: list[Path]) -> None:
    """Keep ended experiments."""
    for folder in folders:
        if not Analysis(folder).history.closed:
            raise SystemExit(f"{folder}: it has not ended")
        kept = KEPT / folder.name
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for name in FILES:
            shutil.copy(folder / name, kept)
        shutil.copytree(folder / "figures", kept / "figures")
        shutil.copytree(
            folder / "best", kept / "best", ignore=shutil.ignore_patterns("*.safetensors")
        )
        ledger = gzip.compress((folder / "ledger.jsonl").read_bytes(), mtime=0)
        (kept / "ledger.jsonl.gz").write_bytes(ledger)
        for path in kept.rglob("*"):
            if path.stat().st_size > MAX_BYTES:
                raise SystemExit(f"{path}: {path.stat().st_size:,} bytes are too many to keep")


# ------------------------------------------------------------------------- the tables


@dataclass(frozen=True, slots=True)
class Experiment:
    """One task's experiment, as its plan and verdict tell it.

    Attributes:
        plan: ``plan.toml``.
        verdict: ``verdict.json``.
    """

    plan: Mapping[str, Any]
    verdict: Mapping[str, Any]

    @property
    def task(self) -> Mapping[str, Any]:
        """What the verdict says of the task."""
        [task] = self.verdict["tasks"].values()
        return dict(task)

    @property
    def arms(self) -> dict[str, Mapping[str, Any]]:
        """By schedule, its final runs."""
        return {arm["schedule"]: arm for arm in self.task["arms"]}

    @property
    def num_seeds(self) -> int:
        """Final seeds."""
        return int(self.plan["num_final_seeds"])

    def by_baseline(self, what: str) -> dict[str, Mapping[str, Any]]:
        """Return by baseline what is told of each."""
        return {each["baseline"]: each for each in self.task[what]}

    @property
    def record(self) -> str:
        """The strongest baseline by validation."""
        told = self.by_baseline("comparisons")
        return next(name for name, each in told.items() if each["of_record"])

    @property
    def link(self) -> str:
        """The task's name, linked to its report."""
        return f"[{self.task['task']}]({self.plan['name']}/report.md)"


def read() -> list[Experiment]:
    """Return what is kept, in order of its names."""
    return [
        Experiment(
            tomllib.loads((path.parent / "plan.toml").read_text(encoding="utf-8")),
            json.loads(path.read_text(encoding="utf-8")),
        )
        for path in sorted(KEPT.glob("*/verdict.json"))
    ]


def interval(value: Mapping[str, Any] | None, scale: float = 100, sign: str = "") -> str:
    """Show a mean and its 95% interval."""
    if value is None:
        return ""
    shown = f"{scale * value['mean']:{sign}.2f}"
    if value["low"] is None:
        return shown
    return f"{shown} [{scale * value['low']:{sign}.2f}, {scale * value['high']:{sign}.2f}]"


def cell(value: Mapping[str, Any] | None, experiment: Experiment, sign: str = "") -> str:
    """Show it in points of accuracy, and its n where that is not the experiment's."""
    told = interval(value, sign=sign)
    of_all = value is None or value["n"] == experiment.num_seeds
    return told if of_all else f"{told} (n = {value['n']})"


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def headline(experiments: Sequence[Experiment]) -> str:
    """The answer of each task: adaptive beside what the question names, tuned and not."""
    rows = []
    for each in experiments:
        tuned, untuned = each.by_baseline("comparisons"), each.by_baseline("untuned_comparisons")
        rows.append(
            [
                each.task["task"],
                each.num_seeds,
                cell(each.arms[STUDIED]["test_accuracy"], each),
                *(cell(tuned[name]["difference"], each, "+") for name in ASKED),
                f"{each.record}: {cell(tuned[each.record]['difference'], each, '+')}",
                each.task["word"],
                cell(each.arms[STUDIED]["untuned_test_accuracy"], each),
                *(cell(untuned[name]["difference"], each, "+") for name in ASKED),
            ]
        )
    head = ["task", "n", STUDIED, *(f"minus {name}" for name in ASKED), "minus the strongest"]
    untuned_head = [f"{STUDIED}, untuned", *(f"minus tuned {name}" for name in ASKED)]
    return markdown([*head, "verdict", *untuned_head], rows)


def accuracy(experiments: Sequence[Experiment], what: str = "test_accuracy") -> str:
    """Every schedule on every task, on the final seeds."""
    head = ["schedule", *(f"{each.link}, n = {each.num_seeds}" for each in experiments)]
    schedules = dict.fromkeys(name for each in experiments for name in each.plan["schedules"])
    return markdown(
        head,
        [
            [name, *(cell(each.arms.get(name, {}).get(what), each) for each in experiments)]
            for name in schedules
        ],
    )


def untuned(experiments: Sequence[Experiment]) -> str:
    """Every schedule's defaults."""
    return accuracy(experiments, "untuned_test_accuracy")


def differences(experiments: Sequence[Experiment], what: str = "comparisons") -> str:
    """Adaptive minus every baseline, and Holm's p."""
    with_some = [each for each in experiments if each.task[what]]
    baselines = dict.fromkeys(
        name for each in with_some for name in each.plan["schedules"] if name != STUDIED
    )
    rows = []
    for name in baselines:
        cells = []
        for each in with_some:
            told = each.by_baseline(what).get(name)
            shown = "" if told is None else cell(told["difference"], each, "+")
            if told is not None and told["p_holm"] is not None:
                shown += f", p = {told['p_holm']:.3f}"
            cells.append(f"**{shown}**" if told and told["of_record"] else shown)
        rows.append([name, *cells])
    return markdown([f"{STUDIED} minus", *(each.task["task"] for each in with_some)], rows)


def slowed(experiments: Sequence[Experiment]) -> str:
    """The same on a machine that slows down."""
    return differences(experiments, "slowed_comparisons")


def untuned_minus_tuned(experiments: Sequence[Experiment]) -> str:
    """Adaptive's defaults minus every baseline after its search."""
    return differences(experiments, "untuned_comparisons")


def to_target(experiments: Sequence[Experiment]) -> str:
    """Epochs that adaptive needs to the primary target, beside what it is asked about."""
    rows = []
    for each in experiments:
        saved_over = each.by_baseline("times_saved")
        for name in dict.fromkeys((*ASKED, each.record)):
            saved = saved_over[name]
            ours, theirs = (each.arms[arm]["to_target"]["primary"] for arm in (STUDIED, name))
            rows.append(
                [
                    each.task["task"],
                    name,
                    *(
                        f"{interval(time['epochs'], 1)} ({time['num_hits']} of {time['num_runs']})"
                        for time in (ours, theirs)
                    ),
                    interval(saved["difference"], 1, "+"),
                    interval(saved["ratio"], 1),
                ]
            )
    head = ["task", "baseline", STUDIED, "the baseline", "difference [epochs]", "ratio"]
    return markdown(head, rows)


def ablations(experiments: Sequence[Experiment]) -> str:
    """What each part of adaptive is worth: test accuracy with it minus without it."""
    with_some = [each for each in experiments if each.task["ablations"]]
    rows: dict[tuple[str, bool], dict[str, str]] = {}
    for each in with_some:
        for told in each.task["ablations"]:
            if told["schedule"] == STUDIED:
                row = rows.setdefault((told["name"], told["slowed"]), {})
                row[each.task["task"]] = cell(told["worth"], each, "+")
    names = [each.task["task"] for each in with_some]
    return markdown(
        ["without", "speed", *names],
        [
            [name, "slowed down" if slow else "steady", *(row.get(task, "") for task in names)]
            for (name, slow), row in rows.items()
        ],
    )


def audits(experiments: Sequence[Experiment]) -> str:
    """Every rule that does not hold."""
    rows = [
        [each.task["task"], check["rule"], check["finding"]]
        for each in experiments
        for check in each.verdict["audit"]
        if check["ok"] is False
    ]
    return markdown(["task", "rule", "found"], rows or [["all", "every rule", "holds"]])


def tasks(experiments: Sequence[Experiment]) -> str:
    """What each task was."""
    rows = []
    for each in experiments:
        [task] = each.plan["tasks"]
        notes = [f"{k} {v}" for k, v in task["notes"].items() if k not in ("data", "checkpoint")]
        rows.append(
            [
                each.link,
                *(f"{task[f'num_{split}']:,}" for split in ("train", "validation", "test")),
                task["num_epochs"],
                f"{task['optimizer']}, batch {task['batch_size']}",
                ", ".join(notes),
                f"{task['complexity']['value']:.2f}",
                task["precision"],
                f"{each.plan['budget']:g}",
                each.num_seeds,
            ]
        )
    head = ["task", "train", "validation", "test", "T", "optimizer", "model", "C", "precision"]
    return markdown([*head, "full runs an arm", "final seeds"], rows)


def commands(experiments: Sequence[Experiment]) -> str:
    """What was typed."""
    return "\n".join(f"    {each.plan['command']}" for each in experiments)


TABLES: dict[str, Callable[[Sequence[Experiment]], str]] = {
    table.__name__: table
    for table in (
        *(headline, accuracy, untuned, differences, slowed, untuned_minus_tuned, to_target),
        *(ablations, audits, tasks, commands),
    )
}


def filled(page: str, experiments: Sequence[Experiment]) -> str:
    """Return a page with its tables made anew."""

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}\n\n{TABLES[found[2]](experiments)}\n\n{found[3]}"

    return re.sub(r"(<!-- table: (\w+) -->).*?(<!-- end -->)", made, page, flags=re.S)


@app.command()
def tables() -> None:
    """Write the tables of both pages."""
    experiments = read()
    for path in PAGES:
        path.write_text(filled(path.read_text(encoding="utf-8"), experiments), encoding="utf-8")


if __name__ == "__main__":
    app()
