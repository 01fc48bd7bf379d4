"""Nodes that are lost in the middle of a search, and others that come in their place."""

from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.chaos.table import ROWS, Row, duplicates, lost_epochs
from tests.tuning.test_nodes import NODE, ended_well, meeting, search, three_nodes, wait_for
from tune_adaptive.analysis.estimates import Analysis

pytestmark = pytest.mark.slow
__all__ = ["meeting", "three_nodes"]  # fixtures

NUM_REMOVED = 3


def test_nodes_are_removed_and_nothing_is_lost(three_nodes: Cluster, tmp_path: Path) -> None:
    process = search(tmp_path, three_nodes.address, "--gpus-per-trial", "0.25")
    folder = tmp_path / "many"
    events = folder / "ledger.jsonl"
    for number in range(NUM_REMOVED):
        num_ends = 3 + 6 * number
        wait_for(
            process,
            lambda least=num_ends: (
                events.exists() and events.read_text().count('"run_ended"') >= least
            ),
        )
        three_nodes.remove_node(min(three_nodes.worker_nodes, key=id), allow_graceful=False)
        if number < NUM_REMOVED - 1:
            three_nodes.add_node(**NODE)
    ended_well(process)
    analysis = Analysis(folder)
    assert [check.finding for check in analysis.breaches] == []
    assert {run.status for run in analysis.runs} <= {"completed", "stopped"}
    finals = [r for r in analysis.runs if (r.spec.stage, r.spec.role) == ("final", "selected")]
    assert len(finals) == analysis.plan.num_final_seeds * len(analysis.plan.schedules)
    assert duplicates(folder) == 0
    lost = lost_epochs(folder)
    ROWS.append(Row("node: removed", NUM_REMOVED, NUM_REMOVED, lost, 0))
