"""Ledger -> audit, estimates, intervals, verdicts. Reads an experiment's folder, writes nothing."""
