"""The tables of the reference experiments, made of what is kept of them.

Of each experiment: ``plan.toml``, ``verdict.json`` and the tables of trials, runs and epochs.
"""

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.optim import AdamW

from tune_adaptive.analysis.stats import ALPHA, Mean, mean_interval
from tune_adaptive.records.plan import STUDIED
from tune_adaptive.schedules.bounds import highest_lr
from tune_adaptive.schedules.configuration import MAX_LR_RATIO

ASKED = ("step", "exponential")  # the baselines that the question names


@dataclass(frozen=True)
class Experiment:
    """One task's experiment.

    Attributes:
        folder: Where it is kept.
        plan: ``plan.toml``.
        verdict: ``verdict.json``.
        name: The task's, and the seed of its search where the task was searched twice.
    """

    folder: Path
    plan: Mapping[str, Any]
    verdict: Mapping[str, Any]
    name: str

    @cached_property
    def task(self) -> Mapping[str, Any]:
        """What the verdict says of the task."""
        [task] = self.verdict["tasks"].values()
        return dict(task)

    @cached_property
    def arms(self) -> dict[str, Mapping[str, Any]]:
        """By schedule, its final runs."""
        return {arm["schedule"]: arm for arm in self.task["arms"]}

    @cached_property
    def num_seeds(self) -> int:
        """Final seeds."""
        return int(self.plan["num_final_seeds"])

    @cached_property
    def runs(self) -> pd.DataFrame:
        """Runs after the search."""
        return pd.read_parquet(self.folder / "runs.parquet")

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """Epochs of all runs."""
        return pd.read_parquet(self.folder / "epochs.parquet")

    @cached_property
    def record(self) -> str:
        """The strongest baseline by the validation of the selection."""
        told = self.by_baseline("comparisons")
        return next(name for name, each in told.items() if each["of_record"])

    def by_baseline(self, what: str) -> dict[str, Mapping[str, Any]]:
        """Return by baseline what is told of each."""
        return {each["baseline"]: each for each in self.task[what]}

    def accuracies(self, stage: str, schedule: str, role: str = "selected") -> "pd.Series[float]":
        """Return by seed the test accuracies of an arm's runs of one role."""
        runs = self.runs
        own = runs[(runs.stage == stage) & (runs.role == role) & (runs.schedule == schedule)]
        return own.set_index("seed").test_metric


def read(kept: Path) -> list[Experiment]:
    """Return the experiments of a folder, in order of its names."""
    folders = sorted(path.parent for path in kept.glob("*/verdict.json"))
    plans = [tomllib.loads((each / "plan.toml").read_text(encoding="utf-8")) for each in folders]
    told = [json.loads((each / "verdict.json").read_text(encoding="utf-8")) for each in folders]
    searched = Counter(plan["tasks"][0]["name"] for plan in plans)
    experiments = []
    for folder, plan, verdict in zip(folders, plans, told, strict=True):
        task = plan["tasks"][0]["name"]
        name = task if searched[task] == 1 else f"{task}, seed {plan['seed']}"
        experiments.append(Experiment(folder, plan, verdict, name))
    return experiments


def interval(value: Mapping[str, Any], scale: float = 100, sign: str = "") -> str:
    """Show a mean and its 95% interval."""
    shown = f"{scale * value['mean']:{sign}.2f}"
    if value["low"] is None:
        return shown
    return f"{shown} [{scale * value['low']:{sign}.2f}, {scale * value['high']:{sign}.2f}]"


def of_mean(mean: Mean, scale: float = 100, sign: str = "") -> str:
    """Show the same of a mean that was made here."""
    return interval({"mean": mean.mean, "low": mean.low, "high": mean.high}, scale, sign)


def cell(value: Mapping[str, Any], experiment: Experiment, sign: str = "") -> str:
    """Show it in points of accuracy, and its n where that is not the experiment's."""
    told = interval(value, sign=sign)
    return told if value["n"] == experiment.num_seeds else f"{told} (n = {value['n']})"


def is_found(told: Mapping[str, Any]) -> bool:
    """Whether Holm's test finds a difference."""
    return told["p_holm"] is not None and told["p_holm"] < ALPHA


def difference(told: Mapping[str, Any], experiment: Experiment) -> str:
    """Show a difference; bold where Holm's test finds it."""
    shown = cell(told["difference"], experiment, "+")
    return f"**{shown}**" if is_found(told) else shown


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def by_schedule(
    experiments: Sequence[Experiment],
    shown: Callable[[Experiment, str], str],
    corner: str = "schedule",
    without: str = "",
) -> str:
    """Return a row for each schedule and a column for each experiment.

    What every experiment ran has a table, what only some of them ran another: no cell is empty.
    """
    ran = {each.name: set(each.plan["schedules"]) - {without} for each in experiments}
    everywhere = set.intersection(*ran.values())
    found = []
    for rows_of in (everywhere, set.union(*ran.values()) - everywhere):
        with_them = [each for each in experiments if rows_of & ran[each.name]]
        names = dict.fromkeys(n for e in with_them for n in e.plan["schedules"] if n in rows_of)
        head = [corner, *(f"{each.name}, n = {each.num_seeds}" for each in with_them)]
        rows = [[name, *(shown(each, name) for each in with_them)] for name in names]
        found += [markdown(head, rows)] * bool(rows)
    return "\n\n".join(found)


# ------------------------------------------------------------------------- the tables


def headline(experiments: Sequence[Experiment]) -> str:
    """Adaptive beside what the question names and the strongest, tuned and untuned."""
    rows = []
    for each in experiments:
        against = *ASKED, each.record
        tuned, untuned = each.by_baseline("comparisons"), each.by_baseline("untuned_comparisons")
        for of, accuracy, told, word in (
            ("tuned", "test_metric", tuned, each.task["word"]),
            ("untuned", "untuned_test_metric", untuned, ""),
        ):
            *asked, strongest = (difference(told[name], each) for name in against)
            own = cell(each.arms[STUDIED][accuracy], each)
            row = [each.name, each.num_seeds, f"{STUDIED}, {of}", own, *asked]
            rows.append([*row, f"{each.record}: {strongest}", word])
    head = ["task", "n", "", "test accuracy [%]", *(f"minus tuned {name}" for name in ASKED)]
    return markdown([*head, "minus the strongest, tuned", "verdict on that"], rows)


def accuracy(experiments: Sequence[Experiment]) -> str:
    """Every schedule on every task, tuned, on the final seeds."""
    return by_schedule(experiments, lambda e, name: cell(e.arms[name]["test_metric"], e))


def untuned(experiments: Sequence[Experiment]) -> str:
    """Every schedule's defaults, on the final seeds."""
    return by_schedule(experiments, lambda e, name: cell(e.arms[name]["untuned_test_metric"], e))


def differences(experiments: Sequence[Experiment], what: str = "comparisons") -> str:
    """Adaptive minus every baseline, and Holm's p."""

    def shown(each: Experiment, name: str) -> str:
        told = each.by_baseline(what)[name]
        p = "" if told["p_holm"] is None else f", p = {told['p_holm']:.3f}"
        return difference(told, each) + p + ("; of record" if name == each.record else "")

    with_some = [each for each in experiments if each.task[what]]
    return by_schedule(with_some, shown, f"{STUDIED} minus", without=STUDIED)


def untuned_minus_tuned(experiments: Sequence[Experiment]) -> str:
    """Adaptive's defaults minus every baseline after its search."""
    return differences(experiments, "untuned_comparisons")


def slowed_minus(experiments: Sequence[Experiment]) -> str:
    """Adaptive minus every baseline on a machine that slows down."""
    return differences(experiments, "slowed_comparisons")


def slowed(experiments: Sequence[Experiment]) -> str:
    """Every schedule on a machine that slows down, and what that costs it."""

    def shown(each: Experiment, name: str) -> str:
        steady, slow = (each.accuracies(stage, name) for stage in ("final", "contention"))
        lost = (slow - steady).dropna()
        return (
            f"{of_mean(mean_interval(list(slow)))}, {of_mean(mean_interval(list(lost)), sign='+')}"
        )

    return by_schedule([each for each in experiments if each.task["slowed_comparisons"]], shown)


def to_target(experiments: Sequence[Experiment], target: str = "primary") -> str:
    """Epochs to a target and how many runs hit it."""

    def shown(each: Experiment, name: str) -> str:
        time = each.arms[name]["to_target"].get(target)
        if time is None:
            return "no target"
        return f"{interval(time['epochs'], 1)}, {time['num_hits']} of {time['num_runs']}"

    return by_schedule(experiments, shown)


def to_target_minus(experiments: Sequence[Experiment]) -> str:
    """How many epochs later than each baseline adaptive reaches the primary target."""

    def shown(each: Experiment, name: str) -> str:
        told = each.by_baseline("times_saved").get(name)
        return interval(told["difference"], 1, "+") if told else "no target"

    return by_schedule(experiments, shown, f"{STUDIED} minus", without=STUDIED)


def to_easy_target(experiments: Sequence[Experiment]) -> str:
    """The same of the easy target."""
    return to_target(experiments, "easy")


def cost(experiments: Sequence[Experiment]) -> str:
    """What is reached by one run of the defaults, and by a whole search."""
    rows = []
    for each in experiments:
        [task] = each.plan["tasks"]
        for name in dict.fromkeys((STUDIED, *ASKED, each.record)):
            arm, runs = each.arms[name], each.runs
            selected = runs[(runs.stage == "select") & (runs.schedule == name)]
            epochs = arm["search_epochs"] + selected.epoch_equivalents.sum() + task["num_epochs"]
            one, all_ = arm["untuned_test_metric"], arm["test_metric"]
            untuned = task["num_epochs"], cell(one, each)
            rows.append([each.name, name, *untuned, f"{epochs:.0f}", cell(all_, each)])
    head = ["task", "schedule", "epochs, untuned", "test accuracy [%]", "epochs, tuned"]
    return markdown([*head, "test accuracy [%]"], rows)


def selected(experiments: Sequence[Experiment]) -> str:
    """The adaptive configurations that were selected, and how far their runs differ."""
    rows = []
    for each in experiments:
        configuration = each.arms[STUDIED]["configuration"]
        own = configuration["parameters"]
        epochs = each.epochs
        of_arm = (epochs.stage == "final") & (epochs.role == "selected")
        final = epochs[of_arm & (epochs.schedule == STUDIED)]
        runs = [tuple(lr for lrs in run.lrs for lr in lrs) for _, run in final.groupby("run_id")]
        lr = configuration["recipe"]["lr"]
        optimizer = AdamW([torch.nn.Parameter(torch.zeros(1))])  # as on every task here
        bound = highest_lr(optimizer, lr, own.get("max_lr_ratio", MAX_LR_RATIO))
        at_bound = sum(max(lrs) >= 0.999 * bound for lrs in runs)
        weights = (own.get(f"{name}_weight") for name in ("complexity", "resource"))
        rows.append(
            [
                *(
                    each.name,
                    f"{lr:.2g}",
                    f"{bound:.2g}",
                    f"{min(map(max, runs)):.2g} to {max(map(max, runs)):.2g}",
                    "on" if own.get("feedback", True) else "off",
                ),
                *("default" if weight is None else f"{weight:.2f}" for weight in weights),
                f"{len(set(runs))} of {len(runs)}",
                f"{at_bound} of {len(runs)}",
            ]
        )
    head = ["task", "base lr", "bound", "highest lr of a run", "feedback", "complexity weight"]
    head += ["resource weight", "different learning rates", "runs at the bound"]
    return markdown(head, rows)


def ablations(experiments: Sequence[Experiment]) -> str:
    """What each part is worth: test accuracy with it minus without it."""
    with_some = [each for each in experiments if each.task["ablations"]]
    rows: dict[tuple[str, bool], dict[str, str]] = {}
    for each in with_some:
        for told in each.task["ablations"]:
            row = rows.setdefault((f"{told['schedule']}: {told['name']}", told["slowed"]), {})
            row[each.name] = cell(told["worth"], each, "+")
        for stage, slow in (("ablation", False), ("contention", True)):
            names = "signals off", "all off"
            annealed, constant = (each.accuracies(stage, STUDIED, name) for name in names)
            row = rows.setdefault((f"{STUDIED}, signals being off: the anneal", slow), {})
            worth = mean_interval(list((annealed - constant).dropna()))
            row[each.name] = of_mean(worth, sign="+")
    head = ["without", "speed", *(f"{each.name}, n = {each.num_seeds}" for each in with_some)]
    return markdown(
        head,
        [
            [part, "slowed down" if slow else "steady", *(row[e.name] for e in with_some)]
            for (part, slow), row in sorted(rows.items(), key=lambda item: item[0][1])
        ],
    )


def audits(experiments: Sequence[Experiment]) -> str:
    """Every rule that does not hold, or of which nothing can be said."""
    rows = [
        [
            each.name,
            check["rule"],
            "does not hold" if check["ok"] is False else "cannot be said",
            check["finding"].replace(f"{each.task['task']} ", "").replace("_", "\\_"),
        ]
        for each in experiments
        for check in each.verdict["audit"]
        if check["ok"] is not True
    ]
    return markdown(["task", "rule", "", "found"], rows)


def tasks(experiments: Sequence[Experiment]) -> str:
    """What each task was."""
    rows = []
    for each in experiments:
        [task] = each.plan["tasks"]
        left_out = ("data", "checkpoint", "checkpoint_sha256")
        notes = [f"{name} {note}" for name, note in task["notes"].items() if name not in left_out]
        trials = pd.read_parquet(each.folder / "trials.parquet").groupby("schedule").size()
        rows.append(
            [
                f"[{each.name}]({each.plan['name']}/report.md)",
                *(f"{task[f'num_{split}']:,}" for split in ("train", "validation", "test")),
                task["num_epochs"],
                f"{task['optimizer']}, batch {task['batch_size']}",
                ", ".join(notes),
                f"{task['complexity']['value']:.2f}",
                where(each),
                each.plan["signals"],
                task["precision"],
                f"{each.plan['budget']:g}",
                f"{trials.min()} to {trials.max()}",
                each.num_seeds,
            ]
        )
    head = ["task", "train", "validation", "test", "T", "optimizer", "options", "C"]
    head += ["trials on", "signals", "precision"]
    return markdown([*head, "full runs an arm", "trials an arm", "final seeds"], rows)


def where(experiment: Experiment) -> str:
    """Tell what a trial of the search has, and how many run concurrently."""
    [task] = experiment.plan["tasks"]
    share = f"{task['gpus_per_trial']:g} of an {experiment.plan['device'].split(',')[0]}"
    return f"{share if task['gpus_per_trial'] else 'a CPU core'}, {task['slots']} concurrent"


def resources(experiments: Sequence[Experiment]) -> str:
    """What was read of the GPU, by stage."""
    rows = []
    for each in experiments:
        for stage, epochs in each.epochs.groupby("stage", sort=False):
            util = epochs.gpu_util.dropna()
            if util.empty:
                continue
            quarter, half, most = (100 * util.quantile([0.25, 0.5, 0.75])).round()
            memory = f"{epochs.gpu_mem_bytes.max() / 2**30:.2f}"
            fraction = f"{100 * epochs.gpu_mem_fraction.max():.0f}"
            others = f"{epochs.num_cotenants.median():.0f}"
            spread = f"{half:.0f} ({quarter:.0f} to {most:.0f})"
            rows.append([each.name, stage, len(util), spread, memory, fraction, others])
    head = ["task", "stage", "epochs", "GPU utilisation [%]", "a trial's memory, at most [GiB]"]
    return markdown([*head, "the GPU's memory in use, at most [%]", "other processes"], rows)


def commands(experiments: Sequence[Experiment]) -> str:
    """What was typed."""
    return "\n".join(f"    {each.plan['command']}" for each in experiments)


TABLES: dict[str, Callable[[Sequence[Experiment]], str]] = {
    table.__name__: table
    for table in (
        *(headline, selected, tasks, resources, commands, accuracy, differences, untuned),
        *(
            untuned_minus_tuned,
            cost,
            to_target,
            to_target_minus,
            to_easy_target,
            ablations,
            slowed,
            slowed_minus,
        ),
        audits,
    )
}
