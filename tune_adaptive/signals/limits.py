"""What the kernel lets this process use: the limits of its control groups, versions 1 and 2.

A container that is started with ``--cpus=2 --memory=8g`` on a machine of 64 cores sees all 64 and
all memory; the limits stand in the files of its control group. A group is held to the limits of
those above it, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of this process's control groups; None where there is none.

    Attributes:
        cpus: CPU time a second [s/s], > 0.
        memory_bytes: Memory.
        memory_used_bytes: What the group with that limit uses of it, without idle copies of files.
    """

    cpus: float | None = None
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None


def read_limits(proc: Path = PROC, root: Path = ROOT) -> Limits:
    """Read the limits that hold for this process; what cannot be read is no limit.

    Args:
        proc: The file that names its groups.
        root: Where their files are mounted.
    """
    cpus = min(
        (share for folder in _groups("cpu", proc, root) if (share := _cpus(folder))), default=None
    )
    memory = min(
        (found for folder in _groups("memory", proc, root) if (found := _memory(folder))),
        key=lambda found: found[0],
        default=(None, None),
    )
    return Limits(cpus, *memory)


def _groups(controller: str, proc: Path, root: Path) -> Iterator[Path]:
    """Give the folders of this process's group and of those above it, where ``root`` has them.

    Inside a container the named path is often the host's and absent; its root is then the
    container's own group.
    """
    lines = [line.split(":", 2) for line in _text(proc).splitlines()]
    for _, controllers, path in (parts for parts in lines if len(parts) == 3):
        if not controllers:  # version 2 has one hierarchy, in some systems below version 1's
            mounts = [root, root / "unified"]
        elif controller in controllers.split(","):
            mounts = [root / controllers, root / controller]
        else:
            continue
        below = Path(path.lstrip("/"))
        if ".." in below.parts:  # of another namespace
            below = Path()
        for mount in mounts:
            yield from (mount / each for each in (below, *below.parents))
    yield root  # also where /proc is hidden


def _cpus(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _text(folder / "cpu.cfs_quota_us").strip()
        period = _text(folder / "cpu.cfs_period_us").strip()
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None  # "max" or -1: no limit
    return int(quota) / int(period) or None


def _memory(folder: Path) -> tuple[int, int | None] | None:
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        told = _text(folder / limit).strip()
        if told.isdecimal() and int(told) < 2**60:  # version 1's "no limit" is nearly 2**63
            now = _text(folder / used).strip()
            return int(told), max(0, int(now) - _cached(folder)) if now.isdecimal() else None
    return None


def _cached(folder: Path) -> int:
    """Return what a group's memory holds of files and gives up when it is needed."""
    stat = dict(
        line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line
    )
    cached = stat.get("total_inactive_file", stat.get("inactive_file", "0")).strip()
    return int(cached) if cached.isdecimal() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
