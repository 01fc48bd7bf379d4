"""Learning rates that a schedule writes into groups which others change, too.

A rate that is not the one left there is another scheduler's doing, or a person's. It is kept as
a factor: the group's rate is the schedule's own times that factor. A rate that is a tensor stays
on its device: whether it was changed is told by its version, and the factor is computed there.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Group = dict[str, Any]
Rate = float | Tensor


class SharedRates:
    """What one schedule wrote into each group, and what others made of it."""

    __slots__ = ("_before_restore", "_factors", "_tensors", "_written")

    def __init__(self) -> None:
        self._factors: list[Rate] = []
        self._written: list[Rate] = []
        self._before_restore: Sequence[Rate] | None = None
        self._tensors: dict[int, tuple[Tensor, int]] = {}  # as they were left, with their version

    def start(self, groups: Sequence[Group], bases: Sequence[float] | None = None) -> None:
        """Begin with the rates that stand in the groups.

        Args:
            groups: The optimizer's.
            bases: What the schedule starts from; what the groups have instead is the doing of
                schedulers built before. None takes the groups' rates for the schedule's own.
        """
        self._factors, self._written, self._tensors = [], [], {}
        for group in groups:
            self.add(group)
        if bases is not None:
            present = [float(group["lr"]) for group in groups]
            self._factors = [
                1.0 if rate == base else rate / base
                for rate, base in zip(present, bases, strict=True)
            ]

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
        factor, before = float(self._factors[i]), float(self._written[i])
        if self._before_restore is not None and present == self._before_restore[i]:
            pass  # the optimizer was not restored with the schedule: nobody changed it
        elif before > 0:
            factor *= present / before
        elif present > 0 and own > 0:  # somebody had set it to 0, and now lets it go on
            factor = present / own
        self._factors[i] = factor
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
