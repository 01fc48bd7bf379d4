"""Learning rates that a schedule writes into groups which others change, too.

A rate that is not the one left there is another scheduler's doing, or a person's. It is kept as
a factor: the group's rate is the schedule's own times that factor. A rate that is a tensor stays
on its device: whether it was changed is told by its version, and the factor is computed there.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim import Optimizer

Group = dict[str, Any]
Rate = float | Tensor


class SharedRates:
    """What one schedule wrote into each group, and what others made of it."""

    __slots__ = ("_before_restore", "_factors", "_starts_at_zero", "_tensors", "_written")

    def __init__(self) -> None:
        self._factors: list[Rate] = []
        self._written: list[Rate] = []
        self._before_restore: Sequence[Rate] | None = None
        self._tensors: dict[int, tuple[Tensor, int]] = {}  # as they were left, with their version
        self._starts_at_zero = False

    def start(
        self,
        groups: Sequence[Group],
        bases: Sequence[float] | None = None,
        predecessor: "SharedRates | None" = None,
    ) -> None:
        """Begin with the rates that stand in the groups.

        Args:
            groups: The optimizer's.
            bases: What the schedule starts from; what the groups have instead is the doing of
                schedulers built before. None takes the groups' rates for the schedule's own.
            predecessor: What a schedule of the same kind, which this one replaces, wrote into
                them: only what others made of that counts.
        """
        self._factors, self._written, self._tensors = [], [], {}
        self._starts_at_zero = False
        for group in groups:
            self.add(group)
        if bases is not None:
            self._factors = [
                _first_factor(i, float(group["lr"]), base, predecessor)
                for i, (group, base) in enumerate(zip(groups, bases, strict=True))
            ]
            self._starts_at_zero = 0.0 in self._factors

    def warn_if_still_zero(self, groups: Sequence[Group]) -> None:
        """Say so where a rate of 0 that stood in a group at the start goes on for ever."""
        zeros = [
            i
            for i, (group, factor) in enumerate(zip(groups, self._factors, strict=False))
            if self._starts_at_zero and float(factor) == 0 and float(group["lr"]) == 0
        ]
        if zeros:
            warnings.warn(
                f"The lr of param group {', '.join(map(str, zeros))} was 0 when AdaptiveLR was "
                "created, and is still 0: what stands there is kept as a factor of another "
                "scheduler. If none will raise it (it is left from an earlier run), set "
                'group["lr"] = group["initial_lr"] before you create AdaptiveLR.',
                UserWarning,
                stacklevel=5,
            )

    def add(self, group: Group) -> None:
        """Begin with the rate of one more group."""
        lr = group["lr"]
        if isinstance(lr, Tensor):
            self._tensors[len(self._written)] = (lr, lr._version)
            lr = lr.clone()
        self._written.append(lr)
        self._factors.append(1.0)

    def write(self, groups: Iterable[Group], lrs: list[float]) -> list[Rate]:
        """Write ``lrs``, times what others made of the last ones, and return what was written."""
        written: list[Rate] = lrs  # type: ignore[assignment]  # floats become tensors in place
        before, factors = self._written, self._factors
        for i, group in enumerate(groups):
            present = group["lr"]
            if isinstance(present, Tensor):
                written[i] = self._write_tensor(i, present, lrs[i])
                continue
            if present is not before[i] or factors[i] != 1.0:
                lrs[i] *= self._factor(i, float(present), lrs[i])
            group["lr"] = lrs[i]
        self._written = written
        self._before_restore = None
        return written

    def hold(self, groups: Sequence[Group]) -> None:
        """Leave the rates as they are; what was restored without its optimizer is written once."""
        before, self._before_restore = self._before_restore, None
        for group, old, lr in zip(groups, before or (), self._written, strict=False):
            present = group["lr"]
            if isinstance(present, Tensor):
                present.copy_(torch.where(present == old, lr, present))
            elif present == old:
                group["lr"] = lr

    def _factor(self, i: int, present: float, own: float) -> float:
        self._factors[i] = factor = self.made_of(i, present, own)
        return factor

    def made_of(self, i: int, present: float, own: float) -> float:
        """Return others' factor where ``present`` stands now and ``own`` comes next."""
        if i >= len(self._written):
            return present / own if own > 0 else 1.0
        factor, before = float(self._factors[i]), float(self._written[i])
        if self._before_restore is not None and present == self._before_restore[i]:
            pass  # the optimizer was not restored with the schedule: nobody changed it
        elif before > 0:
            factor *= present / before
        elif present > 0 and own > 0:  # somebody had set it to 0, and now lets it go on
            factor = present / own
        return factor

    def _write_tensor(self, i: int, present: Tensor, own: float) -> Tensor:
        left, version = self._tensors.get(i, (None, -1))
        if left is not present or version != present._version:
            self._factors[i] = self._tensor_factor(i, present, own)
        factor = self._factors[i]
        if isinstance(factor, Tensor):
            present.copy_(factor * own)
        else:
            present.fill_(own * factor)
        self._tensors[i] = (present, present._version)
        return present.clone()

    def _tensor_factor(self, i: int, present: Tensor, own: float) -> Tensor:
        """Return what :meth:`_factor` would, without reading the device."""

        def on_device(rate: Rate) -> Tensor:
            return torch.as_tensor(rate, dtype=present.dtype, device=present.device)

        factor, before = on_device(self._factors[i]), on_device(self._written[i])
        let_go = torch.where(present > 0, present / own, factor) if own > 0 else factor
        factor_now = torch.where(before > 0, factor * (present / before), let_go)
        if self._before_restore is not None:
            factor_now = torch.where(
                present == on_device(self._before_restore[i]), factor, factor_now
            )
        return factor_now

    def factors(self) -> list[float]:
        """Return what others made of each group's rate; reads the device where it lies there."""
        return [float(factor) for factor in self._factors]

    def restore(self, factors: Sequence[float], written: Sequence[float]) -> None:
        """Continue from ``factors`` and the rates that were written last."""
        self._before_restore, self._written = self._written, list(written)
        self._factors, self._tensors = list(factors), {}


_LAST: WeakKeyDictionary[Optimizer, SharedRates] = WeakKeyDictionary()


def begin(
    rates: SharedRates,
    optimizer: Optimizer,
    groups: Sequence[dict[str, Any]],
    bases: Sequence[float] | None,
) -> None:
    """Start ``rates`` on an optimizer's groups, after what its last schedule wrote."""
    before = last_of(optimizer)
    rates.start(groups, bases, None if before is rates else before)
    remember(optimizer, rates)


def last_of(optimizer: Optimizer) -> SharedRates | None:
    """Return what the last schedule of ``optimizer`` wrote, even where that schedule is gone."""
    return _LAST.get(optimizer)


def remember(optimizer: Optimizer, rates: SharedRates) -> None:
    """Keep ``rates`` as those of the last schedule, for as long as the optimizer lives."""
    _LAST[optimizer] = rates


def _first_factor(i: int, present: float, base: float, predecessor: SharedRates | None) -> float:
    if present == base or base == 0:
        return 1.0
    if predecessor is not None:
        factor = predecessor.made_of(i, present, base)
        if factor <= 1:
            return factor
    return present / base  # raised above what the predecessor wrote: somebody wants this rate
