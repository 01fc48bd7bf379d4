"""Make a folder of data sets and encoders for machines without a network.

    python -m tune_adaptive prefetch --task imdb/bert --task mnist/cnn --to DIR

Then search with ``--data-dir DIR`` and the ``--model-path`` it prints.
"""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.system.console import run_command
from tune_adaptive.tasks import DATASETS, TaskOptions, inapplicable, unknown_task
from tune_adaptive.tasks.files import find_files
from tune_adaptive.tasks.folders import is_of_files
from tune_adaptive.tasks.make import halves, is_own_code
from tune_adaptive.tasks.pretrained import DEFAULT_ENCODER, FILES, find_checkpoint


def main(
    task: Annotated[list[str], typer.Option(help="dataset/model; repeatable.")],
    to: Annotated[Path, typer.Option(help="Folder to make or add to.")],
    data_dir: Annotated[Path | None, typer.Option(help="Take data from here, not the hub.")] = None,
    model_path: Annotated[
        str | None, typer.Option(help="Folder or hub id of bert's encoder.")
    ] = None,
) -> None:
    """Copy what the tasks need, as it was published, into one folder."""
    if problems := [f"--task {name}: {why}" for name in task if (why := unknown_task(name))]:
        raise InputError("\n".join(problems))
    for name in task:
        if is_own_code(name) or is_of_files(name):
            raise InputError(f"--task {name}: a task of your own brings its own data")
    if problems := inapplicable(task, TaskOptions(data_dir=data_dir, model_path=model_path)):
        raise InputError("\n".join(problems))
    for name in dict.fromkeys(halves(each)[0] for each in task):
        if DATASETS[name].hub is None:
            typer.echo(f"{name}: embedded in the package, nothing to fetch")
            continue
        files = find_files(name, DATASETS[name], data_dir)
        sources = [path for paths in files.splits.values() for path in paths]
        _copy(sources, to / name)
        typer.echo(f"{to / name}")
    if any(each.endswith("/bert") for each in task):
        folder, checkpoint = find_checkpoint(model_path or DEFAULT_ENCODER)
        target = to / checkpoint.partition("@")[0].replace("/", "--")
        _copy([path for pattern in FILES for path in sorted(folder.glob(pattern))], target)
        typer.echo(f"--model-path {target}")
    typer.echo(f"--data-dir {to}")


def _copy(sources: list[Path], target: Path) -> None:
    """Copy files and folders into ``target``; one that is there is whole."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        for source in sources:
            partial = target / f".{source.name}.partial"
            if source.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(source, partial)
                shutil.rmtree(target / source.name, ignore_errors=True)
            else:
                shutil.copyfile(source, partial)  # follows the links of the hub's cache
            partial.replace(target / source.name)
    except OSError as error:
        raise EnvironmentFault(f"--to {target}: {error}") from error


if __name__ == "__main__":
    run_command(main)
