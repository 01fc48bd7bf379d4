"""Our search, its search stage only: the work file's trials, drawn beforehand by the arm."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from usual import read_work

from tune_adaptive.errors import NoSuccessfulTrial
from tune_adaptive.planning.options import Request
from tune_adaptive.planning.prepare import prepare
from tune_adaptive.protocol.fixed_runs import StageJobs
from tune_adaptive.protocol.run import run as protocol
from tune_adaptive.protocol.stages import Stages
from tune_adaptive.records.space_files import default_space_dir
from tune_adaptive.tasks import TaskOptions
from tune_adaptive.watch.progress import Progress


class SearchOnly(Stages):
    """Ends with the search."""

    def _sequence(self):  # type: ignore[no-untyped-def]
        self._begin("search")
        jobs: StageJobs = self._arms
        yield jobs


def main() -> None:
    """Search."""
    work = read_work()
    num_trials = len(work["trials"])
    request = Request(
        tasks=(work["task"],),
        schedules=(work["schedule"],),
        options=TaskOptions(train_size=work["train_size"]),
        space_dir=default_space_dir(),
        results_dir=Path(work["folder"]),
        name="ours",
        num_epochs=work["num_epochs"],
        budget=num_trials,
        max_concurrent=work["slots"],
        precision=work["precision"],
        command="",
    )
    experiment = prepare(request)
    # The defaults and controls: drawn beforehand, never stopped early.
    plan = replace(experiment.plan, num_controls=num_trials - 1)
    protocol.Stages = SearchOnly  # type: ignore[misc]
    with Progress(plan, Console()) as progress, suppress(NoSuccessfulTrial):  # none selected
        protocol.run(replace(experiment, plan=plan), progress)


if __name__ == "__main__":
    main()
