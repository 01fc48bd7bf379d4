"""The limits of control groups, of both versions, wherever they are mounted."""

from pathlib import Path

import pytest

from tune_adaptive.signals import capacity, limits
from tune_adaptive.signals.limits import Limits, read_limits

GIB = 2**30


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        pytest.param("0::/", {"cpu.max": "200000 100000"}, Limits(cpus=2.0), id="container"),
        pytest.param("0::/", {"cpu.max": "max 100000", "memory.max": "max"}, Limits(), id="none"),
        pytest.param(
            "0::/a/b",
            {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "cpu.max": "400000 100000"},
            Limits(cpus=3.0),
            id="a group above has the lower limit",
        ),
        pytest.param(
            "0::/docker/abc", {"cpu.max": "50000 100000"}, Limits(cpus=0.5), id="the host's path"
        ),
        pytest.param(
            "0::/../../other", {"cpu.max": "150000 100000"}, Limits(cpus=1.5), id="outside"
        ),
        pytest.param(
            "4:memory:/m\n3:cpu,cpuacct:/c",
            {
                "cpu,cpuacct/c/cpu.cfs_quota_us": "250000",
                "cpu,cpuacct/c/cpu.cfs_period_us": "100000",
                "memory/m/memory.limit_in_bytes": f"{GIB}",
                "memory/m/memory.usage_in_bytes": f"{GIB // 4}",
                "memory/memory.limit_in_bytes": f"{2**63 - 4096}",
            },
            Limits(2.5, GIB, GIB // 4),
            id="version 1",
        ),
        pytest.param(
            "0::/",
            {
                "memory.max": f"{GIB}",
                "memory.current": f"{GIB // 2}",
                "memory.stat": f"anon 7\ninactive_file {GIB // 4}\nx",
            },
            Limits(None, GIB, GIB // 4),
            id="files in its cache are given up",
        ),
        pytest.param(
            "3:cpuacct,cpu:/c",
            {"cpu/c/cpu.cfs_quota_us": "-1", "cpu/c/cpu.cfs_period_us": "100000"},
            Limits(),
            id="version 1 without a limit",
        ),
        pytest.param(
            "1:name=systemd:/\n0::/x",
            {"unified/x/memory.max": f"{GIB}"},
            Limits(memory_bytes=GIB),
            id="both versions",
        ),
        pytest.param(None, {"cpu.max": "200000 100000"}, Limits(cpus=2.0), id="/proc is hidden"),
        pytest.param("0::/", {"cpu.max": "garbage\nmore"}, Limits(), id="garbage"),
        pytest.param("0::/", {"cpu.max": "0 0", "memory.max": ""}, Limits(), id="zero"),
        pytest.param("what\n::\n7", {}, Limits(), id="no groups"),
    ],
)
def test_limits_are_read(
    tmp_path: Path, groups: str | None, files: dict[str, str], expected: Limits
) -> None:
    proc = tmp_path / "proc"
    if groups is not None:
        proc.write_text(groups)
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    assert read_limits(proc, tmp_path / "cgroup") == expected


@pytest.mark.parametrize(
    ("quota", "cpus"), [(None, 64), (2.0, 2), (2.5, 2), (0.3, 1), (128.0, 64), (1.9999999999, 2)]
)
def test_a_container_is_planned_for_the_cpus_of_its_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cpus: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(capacity, "read_limits", lambda: Limits(cpus=quota))
    assert capacity.cpus_here() == capacity.this_machine().cpus == cpus


def test_this_machines_limits_are_read_without_an_error() -> None:
    assert isinstance(limits.read_limits(), Limits)
