"""Rows of the table of hostile inputs: folders that were damaged, edited or made up."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.row import Row
from tune_adaptive.records.space_files import default_space_dir

Damage = Callable[[Path], None]
BEST = "finished/best/fashion_mnist_mini-cnn/step.toml"


def write(name: str, content: bytes | str) -> Damage:
    """Put a file of this content in its place."""

    def given(here: Path) -> None:
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return given


def folder(name: str) -> Damage:
    """Put a folder in the place of a file."""

    def given(here: Path) -> None:
        (here / name).unlink(missing_ok=True)
        (here / name).mkdir(parents=True)

    return given


def line(name: str, key: str, value: str) -> Damage:
    """Give the first ``key = ...`` of a TOML another value."""

    def given(here: Path) -> None:
        text = (here / name).read_text(encoding="utf-8")
        text, num = re.subn(rf"(?m)^{key} = (\[\n[^]]*\]|.*$)", f"{key} = {value}", text, count=1)
        assert num == 1
        (here / name).write_text(text, encoding="utf-8")

    return given


def rows_of(here: Path) -> list[dict[str, Any]]:
    text = (here / "finished/ledger.jsonl").read_text(encoding="utf-8")
    return [json.loads(each) for each in text.splitlines()]


def put(here: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (here / "finished/ledger.jsonl").write_text(text, encoding="utf-8")


def changed(
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], unfinished: bool = False
) -> Damage:
    """Change the ledger's rows; ``unfinished`` cuts it first, after a run of the final stage."""

    def given(here: Path) -> None:
        rows = rows_of(here)
        if unfinished:
            rows = rows[: first(rows, "run_ended", FINAL) + 1]
        put(here, change(rows))

    return given


def same(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows


def first(rows: list[dict[str, Any]], event: str, *starts: str) -> int:
    """Find the first row of an event, of a run whose id starts so."""
    return next(
        number
        for number, row in enumerate(rows)
        if row["event"] == event
        and (not starts or row.get("run_id", row.get("run", {}).get("id", "")).startswith(starts))
    )


def dropped(event: str, *starts: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        del rows[first(rows, event, *starts)]
        return rows

    return change


def doubled(event: str, *starts: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        number = first(rows, event, *starts)
        return [*rows[: number + 1], *rows[number:]]

    return change


def earlier(event: str, *starts: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Move a row before the one before it."""

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        number = first(rows, event, *starts)
        rows[number - 1 : number + 1] = rows[number], rows[number - 1]
        return rows

    return change


def at_the_end(row: dict[str, Any]) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda rows: [*rows, row]


def with_value(
    event: str, path: str, value: object, *starts: str
) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Put a value into the first row of an event; ``path`` has dots."""

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        place: dict[str, Any] = rows[first(rows, event, *starts)]
        *parents, key = path.split(".")
        for parent in parents:
            place = place[parent]
        place[key] = value
        return rows

    return change


def row_of_bytes(content: bytes) -> Damage:
    """Put a raw line into the middle of the ledger."""

    def given(here: Path) -> None:
        path = here / "finished/ledger.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:9], content + b"\n", *lines[9:]]))

    return given


def removed(name: str) -> Damage:
    def given(here: Path) -> None:
        for path in here.glob(name):
            path.unlink()

    return given


def resaved(name: str, encoding: str) -> Damage:
    """Save a text as some editors do: with a byte order mark, lines ended by CRLF."""

    def given(here: Path) -> None:
        text = (here / name).read_text(encoding="utf-8")
        (here / name).write_bytes(text.replace("\n", "\r\n").encode(encoding))

    return given


def both(*damages: Damage) -> Damage:
    def given(here: Path) -> None:
        for damage in damages:
            damage(here)

    return given


def spaces(schedule: str, text: str) -> Damage:
    """Copy the shipped spaces, one of them with another content."""

    def given(here: Path) -> None:
        shutil.copytree(default_space_dir(), here / "spaces")
        (here / "spaces" / f"{schedule}.toml").write_text(text, encoding="utf-8")

    return given


# ------------------------------------------------------------ bytes that are no document

STEP = "{finished}/best/fashion_mnist_mini-cnn/step.toml"
PLAN_ONLY = "search --plan --precision fp32 --signals steady --schedule step"
SPACE = f"{PLAN_ONLY} --space {{here}}/spaces"
REPLAY = "search --plan --precision fp32 --schedule step --signals replay:{here}/signals.jsonl"
RESUME = "search --resume {finished}"

NESTED = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 5000
BYTES: dict[str, bytes] = {
    "empty": b"",
    "of NUL bytes": bytes(64),
    "that is not UTF-8": b'x = "\xff\xfe"',
    "nested 100,000 deep": f"x = {NESTED}".encode(),
    "with an integer of 5,000 digits": f"format = {DIGITS}".encode(),
    "in UTF-16": 'format = "5"'.encode("utf-16"),
}
READERS: dict[str, tuple[str, str]] = {
    "a plan": ("status {finished}", "finished/plan.toml"),
    "a best file": (f"export {STEP}", BEST),
    "a best file to verify": (f"verify {STEP}", BEST),
}
DOCUMENTS = [
    Row(f"{what} {name}", command, 2, r".*\.toml: (not TOML|.*this reads \d)", write(path, data))
    for what, (command, path) in READERS.items()
    for name, data in BYTES.items()
]
DOCUMENTS += [
    Row(
        f"a space file {name}",
        SPACE,
        2,
        r".*step\.toml: (not TOML|unknown)" if data else r"(?s).*",
        both(spaces("step", ""), write("spaces/step.toml", data)),
    )
    for name, data in BYTES.items()
    if data
]
DOCUMENTS += [
    Row(f"a recording {name}", REPLAY, 2, r".*signals\.jsonl", write("signals.jsonl", data))
    for name, data in (BYTES | {"nested 100,000 deep": NESTED.encode()}).items()
]
DOCUMENTS += [
    Row(
        "a folder in the place of the plan",
        "status {finished}",
        2,
        ".*not an experiment",
        folder("finished/plan.toml"),
    ),
    Row(
        "a folder in the place of the ledger",
        "status {finished}",
        2,
        ".*cannot be read: Is a dir",
        folder("finished/ledger.jsonl"),
    ),
    Row("a folder in the place of a best file", f"export {STEP[:-10]}", 2, ".*not an experiment"),
    Row(
        "a folder in the place of a space file",
        SPACE,
        2,
        ".*step.toml: cannot be read",
        both(spaces("step", ""), folder("spaces/step.toml")),
    ),
    Row(
        "a folder in the place of a recording",
        REPLAY,
        2,
        ".*cannot be read: Is a directory",
        folder("signals.jsonl"),
    ),
    Row("no folder at all", "report {here}/nowhere", 2, ".*not an experiment"),
    Row(
        "a folder without a ledger",
        "export {finished}",
        2,
        ".*not an experiment's ledger",
        removed("finished/ledger.jsonl"),
    ),
    Row(
        "a plan with a byte order mark and CRLF",
        "status {finished}",
        0,
        "small: finished",
        resaved("finished/plan.toml", "utf-8-sig"),
    ),
    Row(
        "a best file with a byte order mark and CRLF",
        f"export {STEP}",
        0,
        "gamma = ",
        resaved(BEST, "utf-8-sig"),
    ),
]

# ------------------------------------------------------------ values that cannot be

BAD = {"NaN": "nan", "infinite": "inf", "negative": "-1", "a string": '"8"', "huge": DIGITS[:401]}
PLAN_KEYS = {"budget": BAD, "seed": BAD, "num_final_seeds": BAD, "hang_after_s": BAD}
VALUES = [
    Row(
        f"{key} of a plan is {name}",
        "status {finished} --json",
        2,
        rf".*plan\.toml: {key} = .*: must be a",
        line("finished/plan.toml", key, value),
    )
    for key, values in PLAN_KEYS.items()
    for name, value in values.items()
]
VALUES += [
    Row(
        f"a plan with {key} = {value}",
        "status {finished}",
        2,
        rf".*plan\.toml: {message}",
        line("finished/plan.toml", key, value),
    )
    for key, value, message in (
        ("signals", '"live!"', "signals = 'live!': must be one of live, steady, replay"),
        ("schedules", '["step", "step"]', "'step' is given twice"),
        ("schedules", "[]", "it has no task or no schedule"),
        ("schedules", '["a/b"]', "'a/b' is no name of an experiment or schedule"),
        ("precision", '"fp8"', r"tasks\[0\].precision = 'fp8': must be one of fp32, bf16"),
        ("optimizer", '"lion"', r"tasks\[0\].optimizer = 'lion': must be one of adam"),
        ("num_epochs", "0", r"tasks\[0\].num_epochs = 0: must be a whole number >= 1"),
        ("num_classes", "1", "'fashion_mnist_mini/cnn': num_classes = 1: must be >= 2"),
        ("clip_norm", "nan", r"tasks\[0\].clip_norm = nan: must be a number > 0"),
        ("factor", "0.5", "slowdown.factor = 0.5: must be a finite number > 1"),
        ("ablations", "1", "ablations = 1: must be true or false"),
        ("format", "4", "a plan of format 4; this reads 5"),
        ("low", DIGITS[:401], "tasks.spaces.*low = a number of .* bits: must be finite"),
    )
]
VALUES += [
    Row(
        "a plan with an unknown key",
        "status {finished}",
        2,
        ".*sead: unknown key; did you mean",
        line("finished/plan.toml", "seed", "0\nsead = 1"),
    ),
]
VALUES += [
    Row(
        f"{key} of a best file is {name}",
        f"export {STEP}",
        2,
        rf".*step\.toml: .*{key}",
        line(BEST, key, value),
    )
    for key in ("lr", "warmup_frac", "value", "gamma")
    for name, value in BAD.items()
]
VALUES += [
    Row(
        f"the published {key} is {name}",
        f"verify {STEP}",
        2,
        ".*no result that can be verified",
        line(BEST, key, value),
    )
    for key in ("mean", "num_epochs", "seed", "clip_norm")
    for name, value in BAD.items()
    if (key, name) != ("clip_norm", "infinite")  # which is the usual: nothing is clipped
]

BAD_NUMBERS: dict[str, object] = {
    **{"NaN": float("nan"), "infinite": float("inf"), "negative": -0.5, "huge": 10**400},
    **{"a string": "0.9", "nothing": [], "above 1": 1.5},
}
LEDGER_VALUES = [
    Row(
        f"{key} in the ledger is {name}",
        "status {finished}",
        0,
        rf"line \d+ cannot be read: epoch: result.*{key} = .*: must be"
        rf"|epoch 1: (validation|test) accuracy -?\d+\.\d: must be a finite number in \[0, 1\]",
        changed(with_value("epoch", f"result.{key}", value, "final-fashion_mnist_mini-cnn-step-0")),
    )
    for key in ("test_metric", "val_metric", "epoch_equivalents", "num_steps", "ended_at")
    for name, value in BAD_NUMBERS.items()
    if not (key == "ended_at" and name in ("negative", "above 1"))
    and not (key in ("epoch_equivalents",) and name == "above 1")
]
LEDGER_VALUES += [
    Row(
        f"a ledger with {path} = {value!r}",
        "export {finished}",
        0,
        rf"line \d+ cannot be read: {event}: .*: must be|is selected with accuracy 7.0: must be",
        changed(with_value(event, path, value)),
    )
    for event, path, value in (
        ("run_started", "run.seed", -1),
        ("run_started", "run.num_epochs", 1.5),
        ("run_started", "run.stage", "fainal"),
        ("run_started", "run.configuration.recipe.lr", "0.1"),
        ("stage_started", "num_started", -3),
        ("selected", "val_metric", 7.0),
        ("run_ended", "status", "fine"),
        ("epoch", "result.train_loss", float("nan")),
    )
]
ROWS_OF_BYTES: dict[str, bytes] = {
    "nested 100,000 deep": b'{"event":' + NESTED.encode() + b"}",
    "of 5,000 digits": DIGITS.encode(),
    "with a half of a surrogate pair": b'{"event":"test_opened","run_id":"\\ud800","at":1}',
    "that is not UTF-8": b'{"event":"\xff"}',
    "of NUL bytes": bytes(16),
    "that is empty": b"",
    "of an unknown event": b'{"event":"run_startd"}',
    "of a list": b"[1]",
}
LEDGER_VALUES += [
    Row(
        f"a ledger's row {name}",
        "status {finished}",
        0,
        "warning: .*ledger.jsonl: ",
        row_of_bytes(data),
    )
    for name, data in ROWS_OF_BYTES.items()
]

# ------------------------------------------------------------ rows that do not follow

FINAL = "final-fashion_mnist_mini-cnn-step-0"
SEARCH = "search-fashion_mnist_mini-cnn-step-0000"
OPENED_IN_SEARCH = {"event": "test_opened", "run_id": SEARCH, "at": 1.0}
UNKNOWN = {"event": "arm_failed", "task": "fashion_mnist_mini/cnn", "schedule": "cosine"}
ORDER: dict[str, tuple[Callable[[list[dict[str, Any]]], list[dict[str, Any]]], str]] = {
    "a start is gone": (dropped("run_started", FINAL), "whose start is not there"),
    "a start is doubled": (doubled("run_started", FINAL), "is started twice"),
    "an epoch is gone": (dropped("epoch", FINAL), "epoch 2 where epoch 1 must be"),
    "an epoch is doubled": (doubled("epoch", FINAL), "epoch 1 where epoch 2 must be"),
    "an end is doubled": (doubled("run_ended", FINAL), "continues after its end"),
    "a test is opened before its epoch": (earlier("test_opened", FINAL), "no epoch of it opened"),
    "a test is opened twice": (doubled("test_opened", FINAL), "no epoch of it opened"),
    "a test is opened in the search": (
        lambda rows: [*rows[:9], OPENED_IN_SEARCH, *rows[9:]],
        "no epoch of it opened|after its end",
    ),
    "a stage is gone": (
        dropped("stage_started"),
        "stage select begins where stage search must|before any stage",
    ),
    "a stage is doubled": (doubled("stage_started"), "stage search begins where stage select must"),
    "an unknown arm failed": (
        lambda rows: [*rows[:-1], UNKNOWN, rows[-1]],
        "cosine is given up and is no arm of the plan",
    ),
    "rows follow the end": (at_the_end(OPENED_IN_SEARCH), "rows follow the end"),
    "the first row is gone": (dropped("opened"), "is not the first"),
    "what was spent falls": (
        with_value("epoch", "result.epoch_equivalents", 1.5, FINAL),
        "1.5 epoch-equivalents after epoch 1",
    ),
}
FOLLOWING = [
    Row(name, "status {finished}", 0, rf"warning: .*ledger.jsonl: .*({message})", changed(change))
    for name, (change, message) in ORDER.items()
]
RESUMED = [
    Row(
        f"{name}, and it is resumed",
        RESUME,
        2,
        rf".*ledger.jsonl: .*({message})",
        changed(change, unfinished=True),
    )
    for name, (change, message) in ORDER.items()
    if name not in ("rows follow the end", "an unknown arm failed")
]
RESUMED += [
    Row(
        "its plan was edited while it was unfinished",
        RESUME,
        2,
        ".*was edited after",
        both(changed(same, unfinished=True), line("finished/plan.toml", "num_final_seeds", "3")),
    ),
    Row(
        "its space was edited while it was unfinished",
        RESUME,
        2,
        ".*was edited after",
        both(changed(same, unfinished=True), line("finished/plan.toml", "high", "0.5")),
    ),
    Row(
        "its plan's options are of other types",
        RESUME,
        2,
        "the plan's options: train_size = '8': must be a whole number >= 1",
        both(changed(same, unfinished=True), line("finished/plan.toml", "train_size", '"8"')),
    ),
    Row(
        "its recordings are gone",
        RESUME,
        2,
        r".*signals.*\.jsonl: is not there",
        both(changed(same, unfinished=True), removed("finished/signals/*")),
    ),
    Row(
        "its rows were exchanged",
        RESUME,
        2,
        "the experiment cannot be resumed",
        changed(with_value("run_started", "run.seed", 5, FINAL), unfinished=True),
    ),
    Row(
        "its measurements were exchanged",
        RESUME,
        2,
        "the experiment cannot be resumed",
        changed(with_value("selected", "val_metric", 0.99), unfinished=True),
    ),
    Row(
        "a row of another run's task",
        RESUME,
        2,
        ".*is of no arm of the plan",
        changed(with_value("run_started", "run.task", "a/b", FINAL), unfinished=True),
    ),
]
SEVERAL = [
    Row("one experiment twice", "report {finished} {finished}", 2, "small: given twice"),
    Row(
        "a damaged plan beside a whole one",
        "report {finished} {here}/other",
        2,
        ".*other: not an experiment",
        write("other/ledger.jsonl", b""),
    ),
]

# ------------------------------------------------------------ spaces that a run cannot use


def parameter(name: str, table: str) -> str:
    return f"[parameters.{name}]\n{table}\n"


GAMMA = {
    "mixed choices": ('type = "categorical"\nchoices = [0.3, "0.1"]', "takes numbers"),
    "choices of strings": (
        'type = "categorical"\nchoices = ["0.3", "0.1"]\ndefault = "0.3"',
        "takes numbers",
    ),
    "choices of booleans": (
        'type = "categorical"\nchoices = [true, false]\ndefault = true',
        "takes numbers",
    ),
    "an infinite choice": ('type = "categorical"\nchoices = [0.3, inf]', "finite number"),
    "a huge choice": (f'type = "categorical"\nchoices = [{DIGITS[:401]}]', "finite number"),
    "a bound it cannot be built at": (
        'type = "float"\nlow = -1.0\nhigh = 0.9',
        "within its bounds",
    ),
    "a huge bound": (f'type = "int"\nlow = 1\nhigh = {DIGITS[:401]}', "must be finite"),
}
UNUSABLE = [
    Row(
        f"a space with {name}",
        SPACE,
        2,
        rf".*step\.toml: .*{message}",
        spaces("step", parameter("gamma", table)),
    )
    for name, (table, message) in GAMMA.items()
]
UNUSABLE += [
    Row(
        "a space with fractions for a whole number",
        f"{SPACE} --schedule cyclic",
        2,
        ".*cyclic.toml: parameters.num_cycles.type = 'float': the schedule takes whole numbers",
        spaces("cyclic", parameter("num_cycles", 'type = "float"\nlow = 1.0\nhigh = 4.0')),
    ),
    Row(
        "a space with words for a switch",
        f"{SPACE} --schedule adaptive",
        2,
        ".*adaptive.toml: parameters.feedback.choices = .*: the schedule takes true or false",
        spaces(
            "adaptive",
            parameter("feedback", 'type = "categorical"\nchoices = ["on", "off"]\ndefault = "on"'),
        ),
    ),
    Row(
        "a learning rate in words",
        SPACE,
        2,
        ".*common.toml: parameters.lr.choices = .*: the schedule takes numbers",
        spaces("common", parameter("lr", 'type = "categorical"\nchoices = [0.001, "0.01"]')),
    ),
]

ROWS: tuple[Row, ...] = (
    *DOCUMENTS,
    *VALUES,
    *LEDGER_VALUES,
    *FOLLOWING,
    *RESUMED,
    *SEVERAL,
    *UNUSABLE,
)
