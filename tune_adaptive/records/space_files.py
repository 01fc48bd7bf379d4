"""Reading search spaces: ``search_spaces/*.toml``, or the tables of a plan or an export.

``search_spaces/common.toml`` holds what every schedule of a task shares (the fields of
``Recipe``), ``search_spaces/<schedule>.toml`` the schedule's own parameters (the keyword
arguments of its builder)::

    [parameters.feedback]
    type = "categorical"                # or "float", "int"
    choices = [true, false]

    [parameters.feedback_factor]
    type = "float"
    low = 0.05
    high = 0.4
    log = true                          # default false
    default = 0.2                       # default: the builder's own
    when = { feedback = true }          # only if an earlier parameter has this value
    reason = "why this range"           # for the reader

    [for."*/bert".feedback_factor]      # overrides for the tasks that match
    high = 0.3

    [for."*:sgd".feedback_factor]       # or for those with this optimizer
    high = 0.3

    [common.lr]                         # in a schedule's file: overrides of common.toml
    default = 0.01
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tune_adaptive.errors import did_you_mean
from tune_adaptive.records.codec import LARGEST, DecodeError, parse_toml, read_bytes, shown
from tune_adaptive.records.runs import Value
from tune_adaptive.records.spaces import Parameter, SearchSpace, SpaceError

COMMON = "common"

_KEYS = {
    "float": ("low", "high", "log"),
    "int": ("low", "high", "log"),
    "categorical": ("choices",),
}
_SHARED_KEYS = ("type", "default", "when", "reason")


def default_space_dir() -> Path:
    """Return the folder of the shipped spaces: in the wheel, or beside a checkout's package."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def load_space(
    directory: Path,
    schedule: str,
    task: str,
    *,
    optimizer: str = "adamw",
    common_defaults: Mapping[str, Value],
    schedule_defaults: Mapping[str, Value],
    brought: tuple[Mapping[str, Any] | Path, str] | None = None,
) -> SearchSpace:
    """Read an arm's space: ``common.toml``, then ``<schedule>.toml``, as they apply to ``task``.

    Args:
        directory: Folder of the space files.
        schedule: Name of the schedule.
        task: Name of the task, matched against ``[for."PATTERN"]``.
        optimizer: Name of its optimizer; patterns match ``task`` and ``task:optimizer``.
        common_defaults: Names that ``common.toml`` may declare, with their defaults.
        schedule_defaults: The same for the schedule's file: its builder's signature.
        brought: What the schedule brings itself, a table or a file, and where it stands; a file
            in ``directory`` comes first.

    Raises:
        SpaceError: With every problem of both files.
    """
    problems: list[str] = []
    names = (task, f"{task}:{optimizer}")
    own_path, shared_path = (directory / f"{name}.toml" for name in (schedule, COMMON))
    where, table = str(own_path), None
    if brought is not None and not own_path.exists():
        own_table, where = brought
        table = dict(own_table) if isinstance(own_table, Mapping) else None
        own_path = Path(where)
    own = _read(own_path, problems) if table is None else table
    shared = _read(shared_path, problems)
    parameters: list[Parameter] = []
    if shared is not None:
        moved = (where, (own or {}).get(COMMON, {}))
        path = str(shared_path)
        parsed = _parse(shared, path, names, common_defaults, problems, moved)
        problems += _misfits(parsed, path, common_defaults)
        parameters += parsed
    if own is not None:
        own = {key: value for key, value in own.items() if key != COMMON}
        parsed = _parse(own, where, names, schedule_defaults, problems)
        problems += _misfits(parsed, where, schedule_defaults)
        parameters += parsed
    if problems:
        raise SpaceError(problems)
    return SearchSpace(tuple(parameters))


def _read(path: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        return parse_toml(read_bytes(path), str(path))
    except DecodeError as error:
        problems += error.problems
        return None


_TAKEN = {bool: "true or false", int: "whole numbers", float: "numbers", str: "strings"}


def _misfits(
    parameters: Sequence[Parameter], path: str, defaults: Mapping[str, Value]
) -> Iterator[str]:
    """Say which values a run could not use: of another type than the builder's own default."""
    for parameter in parameters:
        default = defaults.get(parameter.name)
        is_categorical = parameter.type == "categorical"
        given = {type(choice) for choice in parameter.choices}
        if not is_categorical:
            given = {int if parameter.type == "int" else float}
        takes = type(default)
        allowed = {int, float} if takes is float else {takes}
        where = f"{path}: parameters.{parameter.name}"
        table = parameter.choices if is_categorical else parameter.type
        told = f"{'choices' if is_categorical else 'type'} = {shown(_plain(table))}"
        if takes in _TAKEN and not given <= allowed:
            yield f"{where}.{told}: the schedule takes {_TAKEN[takes]}, as its default {default!r}"
        elif takes not in _TAKEN and len(given) > 1 and not given <= {int, float}:
            yield f"{where}.{told}: must be of one type"


def _plain(table: object) -> object:
    return list(table) if isinstance(table, tuple) else table


def space_from_dict(tables: object, source: str) -> SearchSpace:
    """Read back what ``SearchSpace.to_dict`` returned, with the same checks."""
    if not isinstance(tables, Mapping):
        raise SpaceError([f"{source}: space = {shown(tables)}: must be a table"])
    problems: list[str] = []
    names = {
        name: table.get("default") if isinstance(table, dict) else None
        for name, table in tables.items()
    }
    parameters = _parse({"parameters": tables}, source, (), names, problems)
    if problems:
        raise SpaceError(problems)
    return SearchSpace(tuple(parameters))


def _parse(
    document: Mapping[str, Any],
    source: str,
    names: tuple[str, ...],
    defaults: Mapping[str, Any],
    problems: list[str],
    moved: tuple[str, object] = ("", {}),
) -> list[Parameter]:
    """Build a file's parameters as they apply to a task's ``names``.

    ``moved`` is another file's tables that override them, and its name.
    """
    for key in document:
        if key not in ("parameters", "for"):
            problems.append(
                f"{source}: {key}: unknown key{did_you_mean(key, ('parameters', 'for', COMMON))}"
            )
    declared = _tables(document.get("parameters", {}), source, "parameters", problems)
    parameters = _parameters(declared, source, "parameters", defaults, problems)

    # Every override is checked, whether or not it applies to this task.
    sections = _tables(document.get("for", {}), source, "for", problems)
    overrides = [(moved[0], COMMON, True, moved[1])] + [
        (source, f'for."{pattern}"', any(fnmatchcase(name, pattern) for name in names), section)
        for pattern, section in sections.items()
    ]
    applied = declared
    for origin, where, applies, section in overrides:
        tables = _tables(section, origin, where, problems)
        for name in tables.keys() - declared.keys():
            hint = did_you_mean(name, declared)
            problems.append(f"{origin}: {where}.{name}: not a parameter of {source}{hint}")
        tables = {name: tables[name] for name in tables if name in declared}
        changed = {name: declared[name] | tables.get(name, {}) for name in declared}
        _parameters(changed, origin, where, defaults, problems, only=set(tables))
        if applies:
            applied = {name: applied[name] | tables.get(name, {}) for name in applied}
    if applied == declared or problems:
        return parameters
    return _parameters(applied, source, f"parameters for {names[0]}", defaults, problems)


def _tables(
    value: object, source: str, where: str, problems: list[str]
) -> dict[str, dict[str, Any]]:
    if not isinstance(value, Mapping):
        problems.append(f"{source}: {where} = {value!r}: must be a table")
        return {}
    tables = {}
    for name, table in value.items():
        if isinstance(table, Mapping):
            tables[name] = dict(table)
        else:
            problems.append(f"{source}: {where}.{name} = {table!r}: must be a table")
    return tables


def _parameters(
    tables: Mapping[str, Mapping[str, Any]],
    source: str,
    where: str,
    defaults: Mapping[str, Any],
    problems: list[str],
    only: set[str] | None = None,
) -> list[Parameter]:
    """Build the parameters, in order; with ``only``, report problems of those alone."""
    parameters: list[Parameter] = []
    for name, table in tables.items():
        found: list[str] = []
        parameter = _parameter(name, table, defaults, parameters, list(tables), found)
        if only is None or name in only:
            for text in found:
                line = f"{source}: {where}.{name}{text}"
                if line.replace(where, "parameters") not in problems:
                    problems.append(line)
        if parameter is not None:
            parameters.append(parameter)
    return parameters


def _parameter(
    name: str,
    table: Mapping[str, Any],
    defaults: Mapping[str, Any],
    earlier: list[Parameter],
    names: list[str],
    found: list[str],
) -> Parameter | None:
    """Check one table; append ``.key = value: what is allowed`` to ``found`` for each problem."""
    if name not in defaults:
        found.append(f": the schedule has no such parameter{did_you_mean(name, defaults)}")
    kind = table.get("type")
    if not isinstance(kind, str) or kind not in _KEYS:
        hint = did_you_mean(kind, _KEYS) if isinstance(kind, str) else ""
        found.append(f".type = {kind!r}: must be one of {', '.join(_KEYS)}{hint}")
        return None
    allowed = _KEYS[kind] + _SHARED_KEYS
    for key in table:
        if key not in allowed:
            found.append(f".{key}: unknown key for type {kind!r}{did_you_mean(key, allowed)}")

    low: Any = None
    high: Any = None
    log, choices = False, ()
    if kind == "categorical":
        choices = table.get("choices", ())
        if not isinstance(choices, list) or not choices:
            found.append(f".choices = {choices!r}: must be a list that is not empty")
            return None
        if not all(_is_value(choice) for choice in choices):
            found.append(
                f".choices = {shown(choices)}: each must be a boolean, finite number or string"
            )
            return None
        if len(set(choices)) < len(choices):
            found.append(f".choices = {shown(choices)}: each must be given once")
            return None
    else:
        low, high, log = table.get("low"), table.get("high"), table.get("log", False)
        before = len(found)
        for key, bound in (("low", low), ("high", high)):
            number = int if kind == "int" else int | float
            if not isinstance(bound, number) or isinstance(bound, bool):
                what = "an integer" if kind == "int" else "a number"
                found.append(f".{key} = {shown(bound)}: must be {what}")
            elif not _is_value(bound):
                found.append(f".{key} = {shown(bound)}: must be finite")
        if not isinstance(log, bool):
            found.append(f".log = {log!r}: must be true or false")
        if len(found) > before:
            return None
        if low >= high:
            found.append(f".low = {low!r}: must be < high = {high!r}")
            return None
        if log and low <= 0:
            found.append(f".low = {low!r}: must be > 0 where log = true")
            return None

    parameter = Parameter(
        name=name,
        type=kind,
        default=table.get("default", defaults.get(name)),
        low=low,
        high=high,
        log=log,
        choices=tuple(choices),
        when=_condition(table.get("when", {}), earlier, names, found),
    )
    if name in defaults and (wrong := parameter.violation(parameter.default)):
        found.append(f".default = {parameter.default!r}: {wrong}")
    return parameter


def _is_value(value: object) -> bool:
    """Whether it can be a hyperparameter's value: of a plain type, and not too large for it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    return isinstance(value, bool | str) or (isinstance(value, float) and abs(value) <= LARGEST)


def _condition(
    when: object, earlier: list[Parameter], names: list[str], found: list[str]
) -> dict[str, Value]:
    if not isinstance(when, Mapping):
        found.append(f".when = {when!r}: must be a table like {{ feedback = true }}")
        return {}
    by_name = {parameter.name: parameter for parameter in earlier}
    for parent, value in when.items():
        if parent in by_name:
            if wrong := by_name[parent].violation(value):
                found.append(f".when.{parent} = {value!r}: {wrong}")
        elif parent in names:
            found.append(f".when.{parent}: must be declared before this parameter")
        else:
            found.append(f".when.{parent}: unknown parameter{did_you_mean(parent, by_name)}")
    return dict(when)
