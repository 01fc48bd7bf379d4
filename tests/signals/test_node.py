"""One sampler a node, heard by every process."""

import errno
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pynvml
import pytest

from tests.signals.fake_nvml import FakeNvml
from tune_adaptive.signals import node as node_module
from tune_adaptive.signals.gpus import GpuReading, Gpus
from tune_adaptive.signals.node import Node, Sample


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Node]]:
    """Nodes of one folder with two fake GPUs; every call of ``latest`` looks again."""
    monkeypatch.setattr(node_module, "INTERVAL_S", 0.0)
    made: list[Node] = []

    def make_node(nvml: FakeNvml | None = None) -> Node:
        node = Node(tmp_path / "node", gpus=lambda: Gpus(nvml or FakeNvml()))
        node._stopped.wait = lambda seconds: True  # type: ignore[method-assign]  # one look
        made.append(node)
        return node

    yield make_node
    for node in made:
        node.close()


def test_the_first_to_ask_samples_and_the_others_hear_it(make: Callable[..., Node]) -> None:
    first, second = make(), make(FakeNvml({"nvmlInit": pynvml.NVMLError_LibraryNotFound()}))
    sample = first.latest()
    assert sample is not None
    assert sample.gpus["uuid0"] == GpuReading(0.75, 0.25)
    assert sample.mem_fraction is not None
    assert 0 < sample.mem_fraction < 1
    assert second.latest() == sample


def test_when_the_sampler_ends_another_takes_over(make: Callable[..., Node]) -> None:
    first, second = make(), make()
    before = first.latest()
    assert second.latest() == before
    first.close()
    after = second.latest()
    assert before is not None
    assert after is not None
    assert after.at > before.at


def test_a_sample_too_old_counts_as_not_measured(make: Callable[..., Node], tmp_path: Path) -> None:
    first, second = make(), make()
    assert first.latest() is not None
    old = Sample(at=time.time() - 60)
    (tmp_path / "node" / "node.json").write_text(json.dumps(asdict(old)))
    assert second.latest() is None, "the lock is held, so nobody else may sample"


def test_a_sampler_that_was_killed_leaves_its_lock(tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from tune_adaptive.signals.node import Node;"
        "node = Node(Path(sys.argv[1])); assert node.latest(); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "node")], check=False)
    assert done.returncode == 9
    (tmp_path / "node" / "node.json").unlink()
    node = Node(tmp_path / "node")
    try:
        assert node.latest() is not None
    finally:
        node.close()


def test_the_thread_goes_on_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "INTERVAL_S", 0.001)
    node = Node(tmp_path / "node", gpus=lambda: Gpus(FakeNvml()))
    try:
        seen = set()
        while len(seen) < 3:  # ends by the test's own patience if the thread has stopped
            sample = node.latest()
            assert sample is not None
            seen.add(sample.at)
    finally:
        node.close()


def test_a_folder_others_may_write_to_is_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "node.json").write_text(json.dumps(asdict(Sample(at=time.time(), cpu_percent=1.0))))
    assert Node(folder).latest() is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"at": 1}', '{"at": "x", "gpus": {}}'])
def test_a_broken_file_is_no_sample(
    content: str, make: Callable[..., Node], tmp_path: Path
) -> None:
    first, second = make(), make()
    assert first.latest() is not None
    (tmp_path / "node" / "node.json").write_text(content)
    assert second.latest() is None


def test_a_full_disk_ends_the_sampling_not_the_training(
    tmp_path: Path, make: Callable[..., Node]
) -> None:
    node = make()
    (tmp_path / "node" / f"node.{os.getpid()}.draft").mkdir()  # what cannot be written
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert node.latest() is None
    assert ["node.json" in str(warning.message) for warning in caught] == [True]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EPERM, errno.EIO])
def test_a_folder_without_locks_is_sampled_nevertheless(
    make: Callable[..., Node], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    first, second = make(), make()
    sample = first.latest()
    assert sample is not None
    assert second.latest() == sample
    first.close()
    assert second.latest() is not None
