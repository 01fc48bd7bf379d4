"""Space files: read, checked, suggested from."""

import re
from pathlib import Path

import numpy as np
import optuna
import pytest

from tune_adaptive.records.space_files import load_space, space_from_dict
from tune_adaptive.records.spaces import SearchSpace, SpaceError

COMMON = """
[parameters.lr]
type = "float"
low = 1e-4
high = 1e-2
log = true

[for."*/bert".lr]
low = 1e-6
high = 1e-4
default = 1e-5
"""
GOOD = """
[parameters.on]
type = "categorical"
choices = [true, false]

[parameters.interval]
type = "int"
low = 1
high = 9
when = { on = true }
"""
DEFAULTS = {"on": True, "interval": 5}


def load(folder: Path, text: str, task: str = "mnist/cnn", common: str = COMMON) -> SearchSpace:
    (folder / "common.toml").write_text(common)
    (folder / "mine.toml").write_text(text)
    return load_space(
        folder, "mine", task, common_defaults={"lr": 1e-3}, schedule_defaults=DEFAULTS
    )


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(SpaceError) as error:
        load(folder, text)
    return [line.replace(f"{folder}/", "") for line in error.value.problems]


def test_conditions_decide_what_is_suggested(tmp_path: Path) -> None:
    space = load(tmp_path, GOOD)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(40):
        values = space.suggest(study.ask())
        assert ("interval" in values) == values["on"]
        assert space.violations(values) == []
        seen.add(values["on"])
    assert seen == {True, False}


def test_a_point_of_numpys_has_plain_values(tmp_path: Path) -> None:
    """A run's budget clock would count in them, and its end be no bool that JSON knows."""
    space = load(tmp_path, GOOD, common=COMMON.replace("log = true\n", ""))
    values = space.at(np.array([0.5, 0.0, 0.5]))
    assert [type(value) for value in values.values()] == [float, bool, int]


def test_defaults_come_from_the_file_then_from_the_builder(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).defaults() == {"lr": 1e-3, "on": True, "interval": 5}
    changed = GOOD.replace("high = 9", "high = 9\ndefault = 7")
    assert load(tmp_path, changed).defaults()["interval"] == 7


def test_overrides_apply_to_the_tasks_that_match(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD, "imdb/bert").defaults()["lr"] == 1e-5
    assert load(tmp_path, GOOD, "imdb/lstm").defaults()["lr"] == 1e-3


def test_a_space_survives_the_plan_and_the_export(tmp_path: Path) -> None:
    space = load(tmp_path, GOOD, "imdb/bert")
    assert space_from_dict(space.to_dict(), "plan.toml") == space
    assert space_from_dict(space.to_dict(), "plan.toml").sha256 == space.sha256


def test_violations_are_all_named(tmp_path: Path) -> None:
    space = load(tmp_path, GOOD)
    assert space.violations({"lr": 1e-3, "on": False}) == []
    assert space.violations({"lr": 1.0, "on": True, "interval": 2.5, "intervall": 1}) == [
        "lr = 1.0: must be in [0.0001, 0.01]",
        "interval = 2.5: must be an integer",
        "intervall: unknown parameter; did you mean 'interval'?",
    ]
    assert space.violations({"lr": float("nan"), "on": "yes"}) == [
        "lr = nan: must be in [0.0001, 0.01]",
        "on = 'yes': must be one of [True, False]",
    ]
    assert space.violations({"lr": 1e-3, "on": False, "interval": 3}) == [
        "interval: its condition does not hold"
    ]
    assert space.violations({"lr": 1e-3}) == ["on is missing"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("low = 1\n", "low = 9\n"), "mine.toml: parameters.interval.low = 9: must be < high = 9"),
        (
            ("low = 1\n", "low = 0\nlog = true\n"),
            "mine.toml: parameters.interval.low = 0: must be > 0 where log = true",
        ),
        (("low = 1\n", "low = nan\n"), "interval.low = nan: must be an integer"),
        (("low = 1\n", "low = 1.5\n"), "interval.low = 1.5: must be an integer"),
        (("low = 1\n", ""), "interval.low = None: must be an integer"),
        (("low = 1\n", "low = true\n"), "interval.low = True: must be an integer"),
        (("low = 1\n", "low = 1\nlog = 3\n"), "interval.log = 3: must be true or false"),
        (
            ("low = 1\n", "low = 6\n"),
            "mine.toml: parameters.interval.default = 5: must be in [6, 9]",
        ),
        (
            ("low = 1\n", "lwo = 1\nlow = 1\n"),
            "parameters.interval.lwo: unknown key for type 'int'; did you mean 'low'?",
        ),
        (('"int"', '"intt"'), "must be one of float, int, categorical; did you mean 'int'?"),
        (("[true, false]", "[]"), "on.choices = []: must be a list that is not empty"),
        (("[true, false]", "[[1]]"), "each must be a boolean, finite number or string"),
        (("[true, false]", "[true, true]"), "each must be given once"),
        (('"int"', '["int"]'), "interval.type = ['int']: must be one of float, int, categorical"),
        (("{ on = true }", "{ off = true }"), "interval.when.off: unknown parameter"),
        (("{ on = true }", "{ on = 3 }"), "interval.when.on = 3: must be one of [True, False]"),
        (("{ on = true }", "3"), "interval.when = 3: must be a table"),
        (
            (".interval]", ".intervall]"),
            "parameters.intervall: the schedule has no such parameter; did you mean 'interval'?",
        ),
        (("[parameters.on]", "[parameter.on]"), "unknown key; did you mean 'parameters'?"),
        (("[parameters.on]", "[for.x.on]"), "mine.toml; there is interval"),
        (
            ("when = { on = true }", '[for."*".interval]\nlow = 20'),
            'mine.toml: for."*".interval.low = 20: must be < high = 9',
        ),
        (("low = 1\n", "low = 1\nlow = 1\n"), "mine.toml: not TOML: Cannot overwrite a value"),
        (("[parameters.on]", "[parameters.on"), "mine.toml: not TOML:"),
    ],
)
def test_a_bad_file_is_told_what_is_wrong(
    tmp_path: Path, edit: tuple[str, str], message: str
) -> None:
    assert edit[0] in GOOD
    assert re.search(re.escape(message), "\n".join(problems(tmp_path, GOOD.replace(*edit))))


def test_each_problem_is_told_once_where_it_stands(tmp_path: Path) -> None:
    override = '\n[for."*".interval]\nlow = 20\n'
    assert problems(tmp_path, GOOD + override) == [
        'mine.toml: for."*".interval.low = 20: must be < high = 9'
    ]
    bad_base = GOOD.replace("low = 1\n", "low = 9\n")
    assert problems(tmp_path, bad_base + override.replace("low = 20", "log = false")) == [
        "mine.toml: parameters.interval.low = 9: must be < high = 9"
    ]


def test_overrides_that_are_wrong_only_together_are_told(tmp_path: Path) -> None:
    both = '\n[for."m*".interval]\nlow = 8\ndefault = 9\n[for."*n".interval]\nhigh = 7\n'
    [problem] = problems(tmp_path, GOOD + both)
    assert problem == "mine.toml: parameters for mnist/cnn.interval.low = 8: must be < high = 7"


def test_a_condition_on_a_later_parameter_is_refused(tmp_path: Path) -> None:
    first, second = GOOD.strip().split("\n\n")
    found = problems(tmp_path, f"{second}\n\n{first}")
    assert found == [
        "mine.toml: parameters.interval.when.on: must be declared before this parameter"
    ]


def test_infinite_and_nan_floats_are_refused(tmp_path: Path) -> None:
    common = COMMON.replace("low = 1e-4", "low = nan").replace("high = 1e-2", "high = inf")
    with pytest.raises(SpaceError) as error:
        load(tmp_path, GOOD, common=common)
    assert "parameters.lr.low = nan: must be finite" in str(error.value)
    assert "parameters.lr.high = inf: must be finite" in str(error.value)


def test_every_problem_of_both_files_is_told_at_once(tmp_path: Path) -> None:
    bad = GOOD.replace("low = 1\n", "low = 9\n").replace("[true, false]", "[]")
    with pytest.raises(SpaceError) as error:
        load(tmp_path, bad, common=COMMON.replace("low = 1e-4", "low = 1"))
    assert len([p for p in error.value.problems if "common.toml" in p]) == 1
    assert len([p for p in error.value.problems if "mine.toml" in p]) >= 2


def test_a_schedule_may_move_what_is_common(tmp_path: Path) -> None:
    moved = GOOD + "\n[common.lr]\ndefault = 5e-3\nhigh = 5e-3\n"
    space = load(tmp_path, moved)
    assert space.defaults()["lr"] == 5e-3
    assert space.violations({"lr": 6e-3, "on": False}) == ["lr = 0.006: must be in [0.0001, 0.005]"]
    # What common.toml says of a task is the more particular.
    assert load(tmp_path, moved, "imdb/bert").defaults()["lr"] == 1e-5


def test_what_a_schedule_moves_is_checked_and_named_after_its_file(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD + "\n[common.lr]\ndefault = 5.0\n[common.rl]\nlow = 1\n") == [
        "mine.toml: common.rl: not a parameter of common.toml; there is lr",
        "mine.toml: common.lr.default = 5.0: must be in [0.0001, 0.01]",
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"other\.toml: cannot be read: No such file"):
        load(tmp_path, GOOD)
        load_space(tmp_path, "other", "x/y", common_defaults={"lr": 1}, schedule_defaults={})
