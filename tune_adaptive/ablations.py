"""The studied schedule without each of its parts: which part earns what."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tune_adaptive.runs import Configuration, Hearing, RunSpec, Stage, Value

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

ABLATIONS: Mapping[str, int] = {"adaptive": len(SETTINGS) + 2, "resource_complexity": 1}
"""How many ablations each schedule has."""


def ablate(whole: Sequence[RunSpec], stage: Stage) -> list[RunSpec]:
    """Return the ablations of one arm's runs, on the same seeds and as slow as they were.

    Args:
        whole: The runs of its selected configuration that ended with a recording.
        stage: The stage that the ablations are of.
    """
    found = []
    for index, run in enumerate(whole):
        run = replace(run, stage=stage)
        if run.configuration.schedule == "adaptive":
            for name, settings in SETTINGS.items():
                found.append(_ablation(run, name, configuration=_with(run, settings)))
            if len(whole) > 1:
                following = whole[(index + 1) % len(whole)].id
                found.append(_ablation(run, OPEN_LOOP, hearing=Hearing(following, ("lr",))))
            shuffled = Hearing(run.id, ("loss",), shuffled=True)
            found.append(_ablation(run, FEEDBACK_SHUFFLED, hearing=shuffled))
        elif run.configuration.schedule == "resource_complexity":
            shuffled = Hearing(run.id, ("load",), shuffled=True)
            found.append(_ablation(run, UTILISATION_SHUFFLED, hearing=shuffled))
    return found


def _with(run: RunSpec, settings: Mapping[str, Value]) -> Configuration:
    parameters = {**run.configuration.parameters, **settings}
    if not parameters.get("feedback", True):  # its own parameters hold only beside it
        parameters = {n: v for n, v in parameters.items() if not n.startswith("feedback_")}
    return replace(run.configuration, parameters=parameters)


def _ablation(
    run: RunSpec,
    name: str,
    configuration: Configuration | None = None,
    hearing: Hearing | None = None,
) -> RunSpec:
    return replace(
        run,
        id=f"{run.stage}-{run.id.partition('-')[2]}-{name.replace(' ', '_')}",
        role=name,
        configuration=configuration or run.configuration,
        hearing=hearing,
    )
