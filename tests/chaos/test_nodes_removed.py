"""Nodes that are lost in the middle of a search, and others that come in their place."""

import json
from collections import Counter
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.chaos.table import Record, Row, duplicates, lost_epochs
from tests.ray_backend.test_nodes import NODE, ended_well, meeting, search, three_nodes, wait_for
from tune_adaptive.analysis.estimates import Analysis

pytestmark = pytest.mark.slow
__all__ = ["meeting", "three_nodes"]  # fixtures

NUM_REMOVED = 3


def test_three_nodes_train_24_quarters_at_once_and_lose_nothing_when_nodes_go(
    three_nodes: Cluster, meeting: Path, tmp_path: Path, record: Record
) -> None:
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
    told = ended_well(process)
    assert "24 concurrent trials on 3 nodes of 6 CPUs and 6 GPUs" in " ".join(told.split())
    words = sorted(meeting.iterdir(), key=lambda word: word.stat().st_mtime_ns)[:24]
    nodes = [json.loads(word.read_text())["node"] for word in words]  # of those that met
    assert sorted(Counter(nodes).values()) == [8, 8, 8]
    analysis = Analysis(folder)
    assert [check.finding for check in analysis.breaches] == []
    assert {run.status for run in analysis.runs} <= {"completed", "stopped"}
    finals = [r for r in analysis.runs if (r.spec.stage, r.spec.role) == ("final", "selected")]
    assert len(finals) == analysis.plan.num_final_seeds * len(analysis.plan.schedules)
    assert duplicates(folder) == 0
    lost = lost_epochs(folder)
    record(Row("node: removed", NUM_REMOVED, NUM_REMOVED, lost, 0))
