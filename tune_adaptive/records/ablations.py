"""Schedules without each of their parts: which part earns what."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tune_adaptive.records.runs import Configuration, Hearing, RunSpec, Stage, Value, file_name

SETTINGS: dict[str, dict[str, Value]] = {
    "complexity_weight 0": {"complexity_weight": 0.0},
    "resource_weight 0": {"resource_weight": 0.0},
    "feedback off": {"feedback": False},
    "signals off": {"complexity_weight": 0.0, "resource_weight": 0.0, "feedback": False},
    "all off": {
        "complexity_weight": 0.0,
        "resource_weight": 0.0,
        "feedback": False,
        "power": 0.0,  # no anneal, and no floor under the warm-up: the constant schedule,
        "min_lr_ratio": 0.0,  # bit for bit
    },
}
"""Ablations of ``adaptive`` that set parameters."""

OPEN_LOOP = "open loop"
"""The learning rates that the same configuration had on another seed: a table, deaf to this run."""

FEEDBACK_SHUFFLED = "feedback shuffled"
"""The losses that the same run had, in random order."""

UTILISATION_SHUFFLED = "utilisation shuffled"
"""The loads that the same run of ``resource_complexity`` heard, in random order."""

ABLATIONS: Mapping[str, tuple[str, ...]] = {
    "adaptive": (*SETTINGS, OPEN_LOOP, FEEDBACK_SHUFFLED),
    "resource_complexity": (UTILISATION_SHUFFLED,),
}
"""The ablations that each schedule has."""


def ablation_names(schedule: str, num_whole: int) -> tuple[str, ...]:
    """Return the ablations of ``num_whole`` runs; one alone has no other's rates to follow."""
    names = ABLATIONS.get(schedule, ())
    return names if num_whole > 1 else tuple(name for name in names if name != OPEN_LOOP)


def ablate(whole: Sequence[RunSpec], stage: Stage) -> list[RunSpec]:
    """Return the ablations of one arm's runs, on the same seeds and as slow as they were.

    Args:
        whole: The runs of its selected configuration that ended with a recording.
        stage: The stage that the ablations are of.
    """
    found = []
    for index, run in enumerate(whole):
        for name in ablation_names(run.configuration.schedule, len(whole)):
            hearing = None
            if name == OPEN_LOOP:
                hearing = Hearing(whole[(index + 1) % len(whole)].id, ("lr",))
            elif name == FEEDBACK_SHUFFLED:
                hearing = Hearing(run.id, ("loss",), shuffled=True)
            elif name == UTILISATION_SHUFFLED:
                hearing = Hearing(run.id, ("load",), shuffled=True)
            found.append(
                replace(
                    run,
                    id=f"{stage}-{file_name(*run.arm)}-{run.number}-{name.replace(' ', '_')}",
                    stage=stage,
                    role=name,
                    configuration=_with(run, SETTINGS.get(name, {})),
                    hearing=hearing,
                )
            )
    return found


def _with(run: RunSpec, settings: Mapping[str, Value]) -> Configuration:
    parameters = {**run.configuration.parameters, **settings}
    if not parameters.get("feedback", True):  # its own parameters hold only beside it
        parameters = {n: v for n, v in parameters.items() if not n.startswith("feedback_")}
    return replace(run.configuration, parameters=parameters)
