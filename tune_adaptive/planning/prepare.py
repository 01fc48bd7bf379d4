"""What was asked for -> a checked, frozen plan. Nothing is written here."""

import bisect
import datetime
import math
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import psutil
import torch

from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.planning.arm_spaces import load_spaces
from tune_adaptive.planning.device_shares import Share, most_on_a_gpu, share_out
from tune_adaptive.planning.inspection import check_memory, inspect_data
from tune_adaptive.planning.loading import loaded, make_named_tasks, tried
from tune_adaptive.planning.options import Request, check_request
from tune_adaptive.ray_backend.cluster import capacity as joined_capacity
from tune_adaptive.ray_backend.cluster import joined, on_a_worker
from tune_adaptive.ray_backend.sessions import session_folder
from tune_adaptive.records.ledger import Event
from tune_adaptive.records.packing import Packed, trials_on_a_gpu
from tune_adaptive.records.plan import MAX_GROWTH, NAME, STUDIED, Plan, check_plan
from tune_adaptive.records.runs import Signal
from tune_adaptive.records.spaces import SearchSpace
from tune_adaptive.records.task_plan import TaskPlan
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.signals.capacity import Capacity, cpus_here, gpus_here, this_machine
from tune_adaptive.signals.limits import read_limits
from tune_adaptive.signals.mps import mps_pipe_directory
from tune_adaptive.signals.replay import read_signals
from tune_adaptive.system.files import expanded
from tune_adaptive.system.packages import version
from tune_adaptive.tasks import Dataset, Task
from tune_adaptive.training.calibration import Measured, measure_task
from tune_adaptive.training.concurrency import measure_packing

NUM_CANDIDATES = 2
NUM_SELECT_SEEDS = 2
CONTROL_SHARE = 0.2
TIME_RESERVE = 0.85
"""Share of a time budget that the estimate may fill; the rest is for what it does not know."""
MAX_CALIBRATED = 4
MIN_HANG_S, HANG_EPOCHS = 600.0, 30
MIN_FREE_BYTES = 256 * 2**20  # a ledger and the signals of a night are tens of MiB


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with the folder it lives in, the data it trains on and, resumed, its ledger."""

    plan: Plan
    folder: Path
    tasks: Mapping[str, Task]
    datasets: Mapping[str, Dataset]
    replay: Sequence[Signal] = ()
    past: Sequence[Event] | None = None  # None: it is new
    address: str | None = None  # of the cluster it joins; None: a Ray of its own
    nice: int = 0  # what a Ray of its own adds to its workers' niceness


def prepare(request: Request) -> Prepared:
    """Check a request, read its spaces and data, calibrate, and freeze the plan.

    Nothing is written.

    Raises:
        InputError: Something asked for cannot be.
        EnvironmentFault: The machine lacks something asked for.
    """
    check_request(request)
    if request.address is None:
        session_folder()  # a Ray that cannot start is reported before anything is read
    folder = _folder(request)
    tasks = make_named_tasks(request)
    spaces = load_spaces(request, tasks)
    signals, _, recording = request.signals.partition(":")
    replay = read_signals(expanded(recording, "--signals replay:")) if signals == "replay" else []
    with joined(request.address) if request.address else nullcontext():
        capacity = joined_capacity() if request.address else this_machine(request.num_gpus)
        shares = share_out(request, tasks, capacity)
        _check_storage_path(request, capacity)
        datasets = {
            name: tried(task, loaded(task, request), request, capacity, shares[name])
            for name, task in tasks.items()
        }
        packing: tuple[Packed, ...] = ()
        if request.gpus_per_trial.is_measured:
            packing = _packing(request, tasks, datasets, capacity, shares)
            shares = share_out(request, tasks, capacity, trials_on_a_gpu(packing))
        _check_room(tasks, datasets, capacity, shares)
        measured = {
            name: _measure(task, datasets[name], request, capacity, shares[name])
            for name, task in tasks.items()
        }
    task_plans = tuple(
        _plan_task(task, datasets[name], request, spaces, measured[name], shares[name])
        for name, task in tasks.items()
    )
    device = _device_in_words(measured, capacity)
    plan = _plan(request, folder.name, task_plans, shares, capacity, device, packing)
    if request.time_budget_s is not None:
        plan = within_time(plan, request.time_budget_s)
    check_plan(plan, "the plan")
    return Prepared(
        plan, folder, tasks, datasets, replay, address=request.address, nice=request.nice
    )


def _packing(
    request: Request,
    tasks: Mapping[str, Task],
    datasets: Mapping[str, Dataset],
    capacity: Capacity,
    shares: Mapping[str, Share],
) -> tuple[Packed, ...]:
    """Measure how many trials share a GPU best, of each task whose share was not given."""
    return tuple(
        packed
        for name, task in tasks.items()
        if name not in request.gpus_per_trial.of_tasks
        for packed in measure_packing(
            task,
            datasets,
            request.precision,
            torch.device("cuda" if gpus_here() else "cpu"),
            capacity.gpus,
            most_on_a_gpu(request, name, capacity),
            num_threads=max(1, int(shares[name].cpus)),
        )
    )


def _plan(
    request: Request,
    name: str,
    tasks: tuple[TaskPlan, ...],
    shares: Mapping[str, Share],
    capacity: Capacity,
    device: str,
    packing: tuple[Packed, ...],
) -> Plan:
    slots = max(share.slots for share in shares.values())
    takes_whole_gpus = all(share.gpus == 1 for share in shares.values())
    return Plan(
        name=name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=request.command,
        seed=request.seed,
        schedules=request.schedules,
        tasks=tasks,
        budget=request.budget,
        num_controls=min(round(CONTROL_SHARE * request.budget), math.floor(request.budget) - 1),
        num_candidates=NUM_CANDIDATES,
        num_select_seeds=NUM_SELECT_SEEDS,
        num_final_seeds=request.num_final_seeds,
        studied=request.studied or STUDIED,
        final_slots=min(slots, max(1, capacity.gpus if takes_whole_gpus else 1)),
        ablations=request.ablations,
        signals=request.signals.partition(":")[0],
        num_gpus=capacity.gpus,
        num_cpus=capacity.cpus,
        num_nodes=len(capacity.nodes),
        builders={name: SCHEDULES.origin(name) for name in SCHEDULES.outside(request.schedules)},
        device=device,
        versions=versions_here(),
        hardware={
            "machine": platform.machine(),
            "system": f"{platform.system()} {platform.release()}",
            "cpus": cpus_here(),
            "memory_bytes": _memory_bytes(),
        },
        options={
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(request.options).items()
            if value is not None
        },
        max_retries=request.max_retries,
        keep_every_s=request.keep_every_s,
        hang_after_s=request.hang_after_s
        or max(MIN_HANG_S, HANG_EPOCHS * max(task.loaded_epoch_s for task in tasks)),
        slowdown=request.slowdown,
        run_time_budget_s=request.run_time_budget_s,
        time_budget_s=request.time_budget_s,
        packing=packing,
        storage_path=absolute_storage(request.storage_path),
    )


def within_time(plan: Plan, time_budget_s: float) -> Plan:
    """Set the horizons, all to the same share of what they are, to the longest in the budget.

    They grow to ``MAX_GROWTH`` times the tasks' own number of epochs at most.

    Raises:
        InputError: One epoch a run is too much already.
    """
    longest = max(task.num_epochs for task in plan.tasks)

    def of(horizon: int) -> Plan:
        tasks = tuple(
            replace(task, num_epochs=max(1, task.num_epochs * horizon // longest))
            for task in plan.tasks
        )
        return replace(plan, tasks=tasks)

    horizon = bisect.bisect_right(
        range(1, MAX_GROWTH * longest + 1),
        TIME_RESERVE * time_budget_s,
        key=lambda horizon: of(horizon).estimated_s(),
    )
    if horizon == 0:
        raise InputError(
            f"--time-budget of {time_budget_s:.0f} s: one epoch a run takes "
            f"{of(1).estimated_s():.0f} s already; lower --budget, --final-seeds or --train-size, "
            "or compare fewer schedules"
        )
    return of(horizon)


def _folder(request: Request) -> Path:
    name = request.name
    if name is None:
        name = datetime.datetime.now().strftime("search-%Y%m%d-%H%M%S")
    if not NAME.fullmatch(name):
        shown = name if len(name) <= 80 else name[:77] + "..."
        raise InputError(
            f"--name {shown!r}: must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter "
            "or digit"
        )
    folder = request.results_dir / name
    try:
        exists = folder.exists()
    except OSError as error:
        raise EnvironmentFault(f"--results-dir {request.results_dir}: {error}") from error
    if exists:
        raise InputError(f"{folder}: exists already; choose another --name, or --resume {folder}")
    # The nearest folder that is there must be one we may write in.
    parent = request.results_dir
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise EnvironmentFault(
            f"--results-dir {request.results_dir}: cannot be written: {parent} is "
            + ("read-only" if parent.is_dir() else "not a folder")
        )
    if (free := shutil.disk_usage(parent).free) < MIN_FREE_BYTES:
        raise EnvironmentFault(
            f"--results-dir {request.results_dir}: {free / 2**20:.0f} MiB are free, "
            f"{MIN_FREE_BYTES / 2**20:.0f} are needed"
        )
    return folder


def _memory_bytes() -> int:
    """Return the memory of this machine, or of the container it is cut to."""
    total = int(psutil.virtual_memory().total)
    limit = read_limits().memory_bytes
    return total if limit is None else min(total, limit)


def versions_here() -> dict[str, str]:
    """Return the versions that decide the numbers."""
    packages = ("tune-adaptive", "torch", "ray", "optuna", "numpy", "scipy")
    return {name: version(name) for name in packages} | {"python": platform.python_version()}


def _check_storage_path(request: Request, capacity: Capacity) -> None:
    if len(capacity.nodes) > 1 and request.storage_path is None:
        raise InputError(
            f"--storage-path is needed: the cluster has {len(capacity.nodes)} nodes, and a run "
            "that continues on another node must find its checkpoint there. Give a folder that all "
            "nodes share (NFS, say) or a URL that fsspec opens, like s3://bucket/checkpoints"
        )


def _check_room(
    tasks: Mapping[str, Task],
    datasets: Mapping[str, Dataset],
    capacity: Capacity,
    shares: Mapping[str, Share],
) -> None:
    """Check that the data fit: in this machine's memory, or in a joined cluster's object stores.

    The stores of a Ray of our own are sized for the data; a cluster's are not ours to size.
    """
    if not capacity.is_joined:
        check_memory(tasks, datasets)
    needed = sum(data.nbytes for data in datasets.values())
    needed += sum(task.nbytes for task in tasks.values())
    rooms = [capacity.object_store_bytes(share.cpus, share.gpus) for share in shares.values()]
    room = min((room for room in rooms if room is not None), default=needed)
    if room < needed:
        raise EnvironmentFault(
            f"the data take {needed / 2**20:.0f} MiB, and the smallest object store of the "
            f"cluster's nodes has {room / 2**20:.0f}: start Ray there with --object-store-memory "
            f"{2 * needed}, or lower --train-size"
        )


def absolute_storage(path: str | None) -> str | None:
    """Return where checkpoints go, the same seen from any folder."""
    if path is None or "://" in path:
        return path
    return str(expanded(path, "--storage-path").absolute())


def _measure(
    task: Task, data: Dataset, request: Request, capacity: Capacity, share: Share
) -> Measured:
    """Train a few steps where and as its trials will."""
    on_a_node = capacity.most_on_a_node(share.cpus, share.gpus)
    there = partial(on_a_worker, measure_task, share.cpus, share.gpus)
    return (there if capacity.is_joined else measure_task)(
        task.without_data(),
        data.describe(),
        data.train,
        data.validation,
        precision=request.precision,
        by_clock=request.signals == "live",
        num_threads=max(1, int(share.cpus)),
        on_gpu=share.gpus > 0,
        num_concurrent=min(share.slots, on_a_node, MAX_CALIBRATED),
    )


def _device_in_words(measured: Mapping[str, Measured], capacity: Capacity) -> str:
    device = next(iter(measured.values())).device
    if device != "CPU":
        if capacity.is_joined:
            return device
        pipes = mps_pipe_directory()
        return f"{device}, MPS at {pipes}" if pipes else f"{device}, without MPS"
    if capacity.gpus:
        return "logical GPUs, trained on CPU"
    return "CPU"


def _plan_task(
    task: Task,
    data: Dataset,
    request: Request,
    spaces: Mapping[tuple[str, str], SearchSpace],
    measured: Measured,
    share: Share,
) -> TaskPlan:
    return TaskPlan(
        name=task.name,
        num_epochs=task.num_epochs if request.num_epochs is None else request.num_epochs,
        num_train=len(data.train),
        num_validation=len(data.validation),
        num_test=len(data.test),
        batch_size=task.batch_size,
        optimizer=task.optimizer,
        augment=task.augment,
        clip_norm=task.clip_norm,
        notes=dict(task.notes),
        data_sha256=data.sha256(),
        complexity=data.describe().complexity,
        precision=measured.precision,
        epoch_s=measured.epoch_s,
        loaded_epoch_s=measured.loaded_epoch_s,
        cpus_per_trial=share.cpus,
        gpus_per_trial=share.gpus,
        slots=share.slots,
        spaces={name: spaces[task.name, name] for name in request.schedules},
        space_sha256={name: spaces[task.name, name].sha256 for name in request.schedules},
        facts=inspect_data(data),
        metric=task.measure.plain,
        chance=task.measure.of_guessing(data.train.y, task.loss),
    )
