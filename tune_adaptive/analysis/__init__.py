"""Ledger -> audit, estimates, intervals, verdicts. Reads an experiment's folder, writes nothing."""

from tune_adaptive.analysis.estimates import Analysis, ArmResult
from tune_adaptive.analysis.history import History, Run

__all__ = ["Analysis", "ArmResult", "History", "Run"]
