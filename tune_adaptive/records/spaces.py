"""Search spaces: validated, frozen parameters -> Optuna define-by-run."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from tune_adaptive.errors import did_you_mean
from tune_adaptive.records.codec import DecodeError
from tune_adaptive.records.runs import Value

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


class SpaceError(DecodeError):
    """Every problem found in the space files, one a line."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One hyperparameter: a float or int in [low, high], or one of ``choices``."""

    name: str
    type: str
    default: Value
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    when: Mapping[str, Value] = field(default_factory=dict)

    def active(self, values: Mapping[str, object]) -> bool:
        """Whether its condition holds under the values chosen before it."""
        return all(name in values and values[name] == value for name, value in self.when.items())

    def suggest(self, trial: "BaseTrial") -> Value:
        """Ask an Optuna trial for a value."""
        if self.type == "categorical":
            return cast(Value, trial.suggest_categorical(self.name, self.choices))
        assert self.low is not None and self.high is not None
        if self.type == "int":
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def at(self, quantile: float) -> Value:
        """Return the value at ``quantile`` in [0, 1) of its (log-)uniform distribution."""
        if self.type == "categorical":
            return self.choices[int(quantile * len(self.choices))]
        assert self.low is not None
        assert self.high is not None
        if self.type == "int":  # each whole number its share
            low, high = self.low - 0.5, self.high + 0.5
        else:
            low, high = self.low, self.high
        if self.log:
            value = math.exp(math.log(low) + quantile * (math.log(high) - math.log(low)))
        else:
            value = low + quantile * (high - low)
        value = min(max(value, self.low), self.high)
        return round(value) if self.type == "int" else value

    def quantile(self, value: float) -> float | None:
        """Return the place of a number between its bounds, in [0, 1]; None if they coincide."""
        assert self.low is not None
        assert self.high is not None
        if self.low == self.high:
            return None
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def violation(self, value: object) -> str | None:
        """Say what is wrong with ``value``, or ``None``."""
        if self.type == "categorical":
            if any(type(value) is type(choice) and value == choice for choice in self.choices):
                return None
            return f"must be one of {list(self.choices)}"
        kinds = int if self.type == "int" else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool):
            return f"must be {'an integer' if self.type == 'int' else 'a number'}"
        assert self.low is not None and self.high is not None
        inside = self.low <= value <= self.high  # also False for NaN
        return None if inside else f"must be in [{self.low:g}, {self.high:g}]"

    def to_dict(self) -> dict[str, Any]:
        """Return the table of a space file that declares this parameter."""
        table: dict[str, Any] = {"type": self.type}
        if self.type == "categorical":
            table["choices"] = list(self.choices)
        else:
            table |= {"low": self.low, "high": self.high, "log": self.log}
        return table | {"default": self.default} | ({"when": dict(self.when)} if self.when else {})


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """An arm's parameters, in the order they are suggested: the common ones first."""

    parameters: tuple[Parameter, ...]

    def suggest(self, trial: "BaseTrial") -> dict[str, Value]:
        """Ask an Optuna trial for a value of every active parameter."""
        values: dict[str, Value] = {}
        for parameter in self.parameters:
            if parameter.active(values):
                values[parameter.name] = parameter.suggest(trial)
        return values

    def defaults(self) -> dict[str, Value]:
        """Return the default of every active parameter."""
        values: dict[str, Value] = {}
        for parameter in self.parameters:
            if parameter.active(values):
                values[parameter.name] = parameter.default
        return values

    def at(self, point: Sequence[float]) -> dict[str, Value]:
        """Return the values of every active parameter at a point of [0, 1)**len(parameters)."""
        values: dict[str, Value] = {}
        for parameter, quantile in zip(self.parameters, point, strict=True):
            if parameter.active(values):
                values[parameter.name] = parameter.at(float(quantile))  # numpy's would stay one
        return values

    def violations(self, values: Mapping[str, object]) -> list[str]:
        """Say what of ``values`` lies outside this space; empty if nothing does."""
        found: list[str] = []
        seen: dict[str, object] = {}
        for parameter in self.parameters:
            if not parameter.active(seen):
                continue
            if parameter.name not in values:
                found.append(f"{parameter.name} is missing")
                continue
            value = values[parameter.name]
            if wrong := parameter.violation(value):
                found.append(f"{parameter.name} = {value!r}: {wrong}")
            seen[parameter.name] = value
        known = {parameter.name for parameter in self.parameters}
        for name in values:
            if name not in known:
                found.append(f"{name}: unknown parameter{did_you_mean(name, known)}")
            elif name not in seen and not any(text.startswith(f"{name} ") for text in found):
                found.append(f"{name}: its condition does not hold")
        return found

    def corners(self) -> Iterator[dict[str, Value]]:
        """Yield the defaults, then the defaults with one parameter at each of its ends."""
        yield self.defaults()
        for parameter in self.parameters:
            for end in parameter.choices or (parameter.low, parameter.high):
                assert end is not None
                moved = (
                    replace(each, default=end) if each is parameter else each
                    for each in self.parameters
                )
                yield SearchSpace(tuple(moved)).defaults()

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as the tables of a space file."""
        return {parameter.name: parameter.to_dict() for parameter in self.parameters}

    @property
    def sha256(self) -> str:
        """Hash of the whole space, for the record."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()
