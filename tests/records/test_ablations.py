"""The studied schedule without its parts, trained on a tiny task."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from tests.training.test_loop import material, spec  # noqa: F401 (a fixture)
from tune_adaptive.records.ablations import ABLATIONS, ablate
from tune_adaptive.records.runs import Configuration, RunSpec, Signal, Slowdown
from tune_adaptive.training.loop import Material, train

TUNED = {
    "complexity_weight": 0.3,
    "resource_weight": 0.9,
    "min_lr_ratio": 0.09,
    "max_lr_ratio": 40.0,
    "feedback": True,
    "feedback_interval_frac": 0.05,
    "feedback_factor": 0.3,
    "feedback_threshold": 0.05,
}


def finals(schedule: str = "adaptive", num: int = 2) -> list[RunSpec]:
    parameters = TUNED if schedule == "adaptive" else {}
    run = spec(schedule, warmup_frac=0.1)
    configuration = replace(run.configuration, parameters=parameters)
    return [
        replace(
            run,
            id=f"final-{n}",
            stage="final",
            seed=n,
            number=n,
            num_epochs=10,
            configuration=configuration,
        )
        for n in range(num)
    ]


def rates(run: RunSpec, on: Material, heard: list[Signal] | None = None) -> list[float | None]:
    signals: list[Signal] = []
    list(train(run, on, record=signals.extend, heard=heard or []))
    return [signal.lr for signal in signals if signal.lr is not None]


@pytest.mark.parametrize("schedule", ABLATIONS)
def test_there_are_as_many_as_the_plan_counts(schedule: str) -> None:
    runs = ablate(finals(schedule), "ablation")
    assert set(Counter(run.role for run in runs).values()) == {2}
    assert {run.role for run in runs} == set(ABLATIONS[schedule])
    assert len({run.id for run in runs}) == len(runs)
    assert {run.stage for run in runs} == {"ablation"}
    assert ablate(finals("step"), "ablation") == []


def test_a_single_run_has_no_other_to_take_its_rates_from() -> None:
    assert "open loop" not in {run.role for run in ablate(finals(num=1), "ablation")}


@pytest.mark.parametrize("slowdown", [None, Slowdown(2.0, 0.4)])
def test_all_off_is_the_constant_schedule_bit_for_bit(
    material: Material,  # noqa: F811
    slowdown: Slowdown | None,
) -> None:
    """With its warm-up, which no floor may lift."""
    [run] = [r for r in ablate(finals(num=1), "ablation") if r.role == "all off"]
    constant = Configuration("constant", run.configuration.recipe)
    ours, theirs = (
        list(train(replace(run, configuration=configuration, slowdown=slowdown), material))
        for configuration in (run.configuration, constant)
    )
    assert [e.lrs for e in ours] == [e.lrs for e in theirs]
    assert ours[0].lrs[0] < ours[0].lrs[-1]
    for a, b in zip(ours, theirs, strict=True):
        assert (a.train_loss, a.val_loss, a.num_steps) == (b.train_loss, b.val_loss, b.num_steps)


def test_open_loop_has_the_rates_of_another_seed(material: Material) -> None:  # noqa: F811
    first, second = finals()
    recorded: list[Signal] = []
    list(train(second, material, record=recorded.extend))
    [run] = [r for r in ablate([first, second], "ablation") if (r.role, r.seed) == ("open loop", 0)]
    assert run.hearing is not None
    assert run.hearing.recording == second.id
    expected = [signal.lr for signal in recorded if signal.lr is not None]
    assert rates(run, material, recorded) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "role", "name"),
    [
        ("adaptive", "feedback shuffled", "loss"),
        ("resource_complexity", "utilisation shuffled", "load"),
    ],
)
def test_what_is_shuffled_is_heard_shuffled_slowed_or_not(
    material: Material,  # noqa: F811
    schedule: str,
    role: str,
    name: str,
) -> None:
    slowed = [replace(run, slowdown=Slowdown(2.0, 0.4)) for run in finals(schedule)]
    [run, _] = [r for r in ablate(slowed, "contention") if r.role == role]
    assert run.hearing is not None
    assert (run.hearing.recording, run.hearing.shuffled) == (slowed[0].id, True)
    assert run.slowdown == slowed[0].slowdown
    recorded: list[Signal] = []
    list(train(slowed[0], material, record=recorded.extend))
    recorded = [signal for signal in recorded if signal.lr is not None]
    rng = random.Random(1)
    values = [rng.random() for _ in recorded]
    recorded = [replace(s, **{name: v}) for s, v in zip(recorded, values, strict=True)]
    heard: list[Signal] = []
    list(train(run, material, record=heard.extend, heard=recorded))
    if name == "load":  # of losses, what was the run's own is recorded
        assert [s.load for s in heard if s.lr is not None] == values[: len(recorded)]
    assert rates(run, material, recorded) == rates(run, material, recorded)
    other = [replace(signal, **{name: 5.0 * signal.step}) for signal in recorded]
    assert rates(run, material, other) != rates(run, material, recorded)
