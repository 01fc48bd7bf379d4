"""What a plan would run and what it is estimated to cost, on a terminal."""

from rich.console import Console
from rich.table import Table

from tune_adaptive.analysis.stats import promised
from tune_adaptive.records.packing import in_words
from tune_adaptive.records.plan import MAX_GROWTH, Plan
from tune_adaptive.records.task_plan import TaskPlan
from tune_adaptive.watch.progress import duration


def show_plan(plan: Plan, console: Console) -> None:
    """Print what would run and its estimated cost."""
    table = Table(box=None, pad_edge=False, title=f"plan of {plan.name}", title_justify="left")
    for header in ("stage", "full runs a task", "epochs in all", "estimated"):
        table.add_column(header, justify="left" if header == "stage" else "right")
    for stage in plan.stages:
        epochs = f"{plan.stage_epochs(stage):g}"
        table.add_row(stage, f"{plan.full_runs(stage):g}", epochs, duration(plan.stage_s(stage)))
    console.print(table)
    for task in plan.tasks:
        console.print(
            f"{task.name}: T = {task.num_epochs} epochs of {task.num_train} examples, "
            f"{task.precision}, {task.epoch_s:.2f} s an epoch; {share(task)}; "
            + ", ".join(plan.schedules),
            highlight=False,
        )
        for remark in task.remarks:
            console.print(f"note: {task.name}: {remark}", highlight=False, markup=False)
    nodes = ""
    if plan.num_nodes > 1:
        nodes = f"{plan.num_nodes} nodes of {plan.num_cpus} CPUs and {plan.num_gpus} GPUs: "
    console.print(
        f"{plan.slots} concurrent trials on {nodes}{plan.device}, in the final stage "
        f"{plan.final_slots}; "
        f"estimated {duration(plan.estimated_s())}, start-up included",
        highlight=False,
    )
    for line in in_words(plan.packing, plan.device):
        console.print(line, highlight=False, markup=False)
    if plan.time_budget_s is not None:
        console.print(
            f"T is solved for --time-budget {duration(plan.time_budget_s)}, up to {MAX_GROWTH} "
            "times a task's own number of epochs; --epochs sets another",
            highlight=False,
        )
    console.print(promised(plan.schedules, plan.num_final_seeds, plan.studied), highlight=False)


def share(task: TaskPlan) -> str:
    """Say what a trial of ``task`` gets."""
    cpus = f"{task.cpus_per_trial:g} CPU" + "s" * (task.cpus_per_trial > 1)
    gpus = f" and {task.gpus_per_trial:g} of a GPU" if task.gpus_per_trial else ""
    return f"{cpus}{gpus} a trial, {task.slots} concurrently"
