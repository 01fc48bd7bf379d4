"""Schedules: which there are, and what they look like.

python -m tune_adaptive schedules list
python -m tune_adaptive schedules plot adaptive step cosine
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.planning.parsing import read_schedules
from tune_adaptive.schedules import SCHEDULES, Horizon, is_installed, unknown_schedule
from tune_adaptive.schedules.requirements import REQUIREMENTS
from tune_adaptive.schedules.simulate import simulate
from tune_adaptive.system.console import run_command, terminal
from tune_adaptive.system.own_code import persons_code

MAX_STEPS = 1_000_000


def main(
    action: Annotated[str, typer.Argument(help="list or plot")],
    schedules: Annotated[
        list[str] | None, typer.Argument(help="Names of schedules, or module:builder.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File to draw into.")] = Path("schedules.png"),
    total_steps: Annotated[int, typer.Option(help="Steps of the run.")] = 1000,
    complexity: Annotated[float, typer.Option(help="C of the data, in [0, 1].")] = 0.45,
) -> None:
    """List the schedules there are, or draw some with their defaults on a falling loss."""
    names = read_schedules(schedules or [], "schedules")
    if action == "list":
        list_schedules()
    elif action == "plot":
        plot_schedules(
            names or tuple(filter(is_installed, SCHEDULES)), out, total_steps, complexity
        )
    else:
        raise InputError(f"unknown action {action!r}; there is list, plot")


def list_schedules() -> None:
    """Print each schedule, where it is from, and what it needs that is not here."""
    table = Table("schedule", "from", "needs")
    for name in SCHEDULES:
        lacking = "" if is_installed(name) else f"pip install '{REQUIREMENTS[name]}'"
        table.add_row(name, SCHEDULES.origin(name), lacking)
    terminal().print(table)


def plot_schedules(
    schedules: tuple[str, ...], out: Path, total_steps: int, complexity: float
) -> None:
    """Draw the learning rates of schedules with their defaults, on a loss that falls smoothly.

    Raises:
        InputError: There is no such schedule, or a number is out of range.
        EnvironmentFault: The file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    problems = [unknown_schedule(name) for name in schedules if name not in SCHEDULES]
    formats = plt.gcf().canvas.get_supported_filetypes()
    plt.close()
    if not 1 <= total_steps <= MAX_STEPS:
        problems.append(f"--total-steps must be in [1, {MAX_STEPS}], got {total_steps}")
    if not 0 <= complexity <= 1:
        problems.append(f"--complexity must be in [0, 1], got {complexity}")
    if out.suffix.removeprefix(".").lower() not in formats:
        problems.append(f"--out {out}: must end in one of {', '.join(sorted(formats))}")
    if problems:
        raise InputError("\n".join(problems))
    canvas, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    horizon = Horizon(total_steps, complexity=complexity, timer=None)
    losses = [2.0 * 0.2 ** (t / total_steps) for t in range(total_steps)]
    for name in schedules:
        with persons_code(f"schedule {name!r}"):
            lrs = simulate(name, horizon, lr=1.0, losses=losses)
        axes.plot(lrs, label=name)
    axes.set(xlabel="optimizer step", ylabel="learning rate / base")
    axes.legend(frameon=False)
    try:
        canvas.savefig(out, dpi=150)
    except OSError as error:
        raise EnvironmentFault(f"--out {out}: cannot be written: {error.strerror}") from error
    finally:
        plt.close(canvas)
    typer.echo(out)


if __name__ == "__main__":
    run_command(main)
