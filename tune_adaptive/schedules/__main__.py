"""Draw schedules: ``python -m tune_adaptive.schedules plot adaptive step cosine``."""

from pathlib import Path
from typing import Annotated

import typer

from tune_adaptive.cli import run_command
from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.schedules import SCHEDULES, Horizon
from tune_adaptive.schedules.simulate import simulate


def main(
    action: Annotated[str, typer.Argument(help="plot")],
    schedules: Annotated[list[str], typer.Argument(help="Names of schedules.")],
    out: Annotated[Path, typer.Option(help="File to draw into.")] = Path("schedules.png"),
    total_steps: Annotated[int, typer.Option(help="Steps of the run.")] = 1000,
    complexity: Annotated[float, typer.Option(help="C of the data, in [0, 1].")] = 0.45,
) -> None:
    """Draw the learning rates of schedules with their defaults, on a loss that falls smoothly."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if action != "plot":
        raise InputError(f"unknown action {action!r}; there is plot")
    unknown = [name for name in schedules if name not in SCHEDULES]
    if unknown:
        raise InputError(f"unknown schedule {unknown[0]!r}{did_you_mean(unknown[0], SCHEDULES)}")
    canvas, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    horizon = Horizon(total_steps, complexity=complexity, timer=None)
    losses = [2.0 * 0.2 ** (t / total_steps) for t in range(total_steps)]
    for name in schedules:
        axes.plot(simulate(name, horizon, lr=1.0, losses=losses), label=name)
    axes.set(xlabel="optimizer step", ylabel="learning rate / base")
    axes.legend(frameon=False)
    canvas.savefig(out, dpi=150)
    plt.close(canvas)
    typer.echo(out)


if __name__ == "__main__":
    run_command(main)
