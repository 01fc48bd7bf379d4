"""What this machine has for a search, and what is in its way: ``python -m tune_adaptive doctor``.

Every check looks at one thing, says what it found, and, where that is a problem, what would
mend it. Nothing is changed. What a check needs it imports itself: that may be what is broken.
"""

import json
import os
import platform
import shutil
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from tune_adaptive.errors import EnvironmentFault, last_line
from tune_adaptive.system import packages
from tune_adaptive.system.console import printable, run_command

HUB_TIMEOUT_S = 3.0
MIN_SHARED_BYTES = 512 * 2**20
MIN_FREE_BYTES = 5 * 2**30
MIN_MEMORY_BYTES = 4 * 2**30
DEV_SHM = Path("/dev/shm")
PYNVML_REMEDY = "pip uninstall pynvml nvidia-ml-py3; pip install --force-reinstall nvidia-ml-py"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        what: It looked at.
        found: It saw.
        problem: What is in the way of a search, if anything.
        remedy: What would mend it.
        stops: Whether it is in the way of every search, the embedded task's too.
    """

    what: str
    found: str
    problem: str = ""
    remedy: str = ""
    stops: bool = True


def versions() -> Iterator[Finding]:
    """Every package that is required, against what is installed."""
    from packaging.requirements import Requirement

    if not packages.has_metadata():
        found = (
            f"{packages.version('tune-adaptive')}, run from {Path(__file__).parent.parent.parent}"
        )
        yield Finding("tune-adaptive", f"{found}, which was not installed")
    for text in packages.requirements():
        required = Requirement(text)
        if required.marker is not None and not required.marker.evaluate({"extra": ""}):
            continue
        version = packages.version(required.name)
        if version == packages.UNKNOWN:
            yield Finding(required.name, "not installed", "is required", f"pip install '{text}'")
            continue
        fits = required.specifier.contains(version, prereleases=True)
        problem = "" if fits else f"must be {required.specifier}"
        if problem or required.name in ("torch", "ray", "optuna"):
            yield Finding(required.name, version, problem, f"pip install '{text}'" * (not fits))


def imports() -> Iterator[Finding]:
    """Whether the packages that a search stands on can be loaded."""
    for name in ("torch", "torchvision", "ray.tune", "optuna"):
        try:
            import_module(name)
        except Exception as error:  # a library of another version may raise anything
            told = last_line(str(error)) or repr(error)
            remedy = "install it again, in a fresh environment: pip install -e ."
            yield Finding(name, "cannot be imported", told, remedy)


def extras() -> Iterator[Finding]:
    """What is optional, by the module that shows it."""
    modules = {
        "dashboard": "opencensus",
        "mlflow": "mlflow",
        "tensorboard": "tensorboard",
        "wandb": "wandb",
        "rivals": "schedulefree",
    }
    there = {extra: packages.is_installed(module) for extra, module in modules.items()}
    have = [extra for extra, is_there in there.items() if is_there]
    lack = [extra for extra, is_there in there.items() if not is_there]
    hint = f"; pip install 'tune-adaptive[{','.join(lack)}]' adds the rest" if lack else ""
    yield Finding("extras", f"{', '.join(have) or 'none'}{hint}")


def gpus() -> Iterator[Finding]:
    """What torch, NVML and the environment say of GPUs, and where they disagree."""
    import torch

    from tune_adaptive.signals.capacity import gpus_here
    from tune_adaptive.signals.gpus import Gpus, bare
    from tune_adaptive.signals.mps import mps_pipe_directory

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    by_torch = gpus_here()
    names = [torch.cuda.get_device_name(index) for index in range(by_torch)]
    built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        by_nvml = Gpus().read()
    faults = [str(each.message) for each in told]
    seen = f"torch sees {by_torch} ({', '.join(names)})" if names else "torch sees none"
    found = f"{seen}, NVML {len(by_nvml)}; {built}"
    if visible is not None:
        found += f"; CUDA_VISIBLE_DEVICES={visible!r}"
    problem, remedy, stops = "", "", True
    if faults:
        is_ours = packages.owners("pynvml") == ["nvidia-ml-py"]
        reload = "reboot, or reload the driver: its parts are of two versions"
        problem, remedy, stops = faults[0], reload if is_ours else PYNVML_REMEDY, is_ours
    elif by_nvml and not by_torch and visible is None:
        problem = "there are GPUs that torch does not see"
        remedy = "install a torch build whose CUDA the driver knows (https://pytorch.org)"
    elif by_nvml and not by_torch:
        problem = "CUDA_VISIBLE_DEVICES hides all of them"
        remedy = "unset it, or name those to use"
    yield Finding("GPUs", found, problem, remedy, stops)
    if by_torch:
        split = [uuid for uuid, reading in by_nvml.items() if reading.util is None]
        own = [bare(str(torch.cuda.get_device_properties(i).uuid)) for i in range(by_torch)]
        yield Finding(
            "MIG",
            f"{len(split)} instances, without utilisation" if set(split) & set(own) else "off",
        )
        pipes = mps_pipe_directory()
        yield Finding(
            "MPS",
            f"at {pipes}"
            if pipes
            else "off: trials take turns on a GPU; `nvidia-cuda-mps-control -d` starts it",
        )


def driver() -> Iterator[Finding]:
    """The NVIDIA driver's version."""
    from tune_adaptive.signals.gpus import as_text

    owners = packages.owners("pynvml")
    try:
        pynvml = import_module("pynvml")
    except Exception as error:
        yield Finding(
            "NVIDIA driver",
            f"unknown: pynvml cannot be imported ({error!r})",
            "the use of GPUs is not measured",
            PYNVML_REMEDY,
            stops=False,
        )
        return
    if owners != ["nvidia-ml-py"]:
        whose = f"of {' and '.join(owners)}" if owners else f"the file {pynvml.__file__}"
        yield Finding(
            "pynvml",
            f"is {whose}",
            "must be of nvidia-ml-py alone: with another the use of GPUs may not be measured",
            PYNVML_REMEDY if owners else "rename that file, or start in another folder",
            stops=False,
        )
    try:
        pynvml.nvmlInit()
        yield Finding("NVIDIA driver", as_text(pynvml.nvmlSystemGetDriverVersion()))
    except Exception as error:  # what another package's module raises is anybody's guess
        yield Finding("NVIDIA driver", f"none ({error})")


def cpus() -> Iterator[Finding]:
    """Cores this process may use, and what they can do."""
    from tune_adaptive.signals.capacity import cpus_here
    from tune_adaptive.signals.limits import read_limits
    from tune_adaptive.training.device import BF16, cpu_capabilities

    here, there, quota = cpus_here(), os.cpu_count() or 1, read_limits().cpus
    capabilities = cpu_capabilities()
    can = [name for name in ("avx2", "avx512_f", *sorted(BF16)) if name in capabilities]
    limited = f" (the container's quota is {quota:g})" if quota is not None else ""
    found = f"{here} of {there} cores{limited}, {platform.machine()}, "
    found += f"{', '.join(can) or 'no vectors'}; "
    found += "bf16 is tried" if BF16 & capabilities else "no bf16, so fp32"
    if not capabilities:
        found += " (as far as this torch can say)"
    problem = remedy = ""
    if quota is not None and quota < 0.9:
        problem = f"the container may use {quota:g} of a CPU: everything takes longer"
        remedy = "docker run --cpus=2, or more"
    yield Finding("CPUs", found, problem, remedy)


def memory() -> Iterator[Finding]:
    """Memory of the machine, or of the container it is cut to."""
    import psutil

    from tune_adaptive.signals.limits import read_limits

    told, limits = psutil.virtual_memory(), read_limits()
    total, free = told.total, told.available
    if limits.memory_bytes is not None:
        total = min(total, limits.memory_bytes)
        free = max(0, min(free, total - (limits.memory_used_bytes or 0)))
    problem = remedy = ""
    if free < MIN_MEMORY_BYTES:
        problem = "each worker takes about 1 GiB, and so does Ray: some may be killed"
        remedy = "--max-concurrent 1, or end what else runs"
    yield Finding("memory", f"{_gib(free)} free of {_gib(total)}", problem, remedy)


def shared_memory() -> Iterator[Finding]:
    """Where Ray's object store lies, which holds the data for all workers."""
    if not DEV_SHM.is_dir():
        yield Finding("shared memory", "no /dev/shm here: Ray's object store is in a file")
        return
    free = shutil.disk_usage(DEV_SHM).free
    problem = remedy = ""
    if free < MIN_SHARED_BYTES:
        problem = "Ray's object store holds the data of all tasks, and would lie on the disk"
        remedy = "docker run --shm-size=2g, or --ipc=host"
    yield Finding("shared memory", f"{_gib(free)} free in {DEV_SHM}", problem, remedy)


def disk() -> Iterator[Finding]:
    """Room, and the right to write, where results and caches go."""
    import platformdirs

    places = {
        "results": Path("results"),
        "prepared data": platformdirs.user_cache_path("tune_adaptive"),
    }
    for name, wanted in places.items():
        folder = wanted.absolute()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        problem = remedy = ""
        if not os.access(folder, os.W_OK | os.X_OK):
            problem, remedy = f"{folder} cannot be written", "--results-dir, or XDG_CACHE_HOME"
        elif free < MIN_FREE_BYTES:
            problem, remedy = "there is little room", "free some, or use another disk"
        yield Finding(name, f"{wanted}: {_gib(free)} free", problem, remedy)


def hub() -> Iterator[Finding]:
    """Whether the Hugging Face hub answers, and what its cache holds."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    cached = sorted(path.name for path in cache.glob("*--*")) if cache.is_dir() else []
    held = f"its cache {cache} holds {len(cached)} repositories"
    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", f"HF_HUB_OFFLINE is set; {held}")
        return
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S):
            yield Finding("hub", f"{constants.ENDPOINT} answers; {held}")
    except urllib.error.HTTPError as error:  # an answer, if not to this question
        yield Finding("hub", f"{constants.ENDPOINT} answers {error.code}; {held}")
    except (OSError, ValueError) as error:
        yield Finding(
            "hub",
            f"{constants.ENDPOINT} does not answer ({error}); {held}",
            "data sets and encoders that are not embedded cannot be fetched",
            "--data-dir and --model-path, filled by tune-adaptive prefetch elsewhere; a proxy by "
            "HTTPS_PROXY, a mirror by HF_ENDPOINT",
            stops=False,
        )


def sessions() -> Iterator[Finding]:
    """Where a Ray of our own would keep its sessions, as a search looks for it."""
    from tune_adaptive.ray_backend.sessions import session_folder

    try:
        yield Finding("Ray's sessions", f"below {session_folder()}")
    except EnvironmentFault as fault:
        problem, _, remedy = str(fault).rpartition(". ")
        yield Finding("Ray's sessions", "no folder for them", problem or remedy, remedy)


def surroundings() -> Iterator[Finding]:
    """Variables that change what Ray does."""
    address = os.environ.get("RAY_ADDRESS")
    if address:
        yield Finding("RAY_ADDRESS", f"{address}: joined with --address auto only")


def own_ray_starts() -> Iterator[Finding]:
    """Whether a Ray of our own starts here and a worker of it can import torch."""
    from tune_adaptive.ray_backend.cluster import asks_for_token, on_a_worker, own_ray

    try:
        with own_ray(1, 0, 128 * 2**20):
            device = on_a_worker(_torch_there, 1, 0)
    except Exception as error:
        yield Finding("Ray", "does not start", str(error), "mend what the checks above name")
        return
    found = f"starts, and a worker has torch {device}"
    if not asks_for_token():
        problem = "it is too old to ask for a token: every user of this machine can reach it"
        yield Finding("Ray", found, problem, "pip install --upgrade 'ray[tune]'", stops=False)
        return
    yield Finding("Ray", found)


def _torch_there() -> str:
    import torch

    return str(torch.__version__)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    versions,
    imports,
    extras,
    driver,
    gpus,
    cpus,
    memory,
    shared_memory,
    disk,
    hub,
    sessions,
    surroundings,
)


def examine(start_ray: bool = False) -> list[Finding]:
    """Run every check; one that fails is a finding, too."""
    findings: list[Finding] = []
    for check in (*CHECKS, own_ray_starts) if start_ray else CHECKS:
        try:
            findings += check()
        except Exception as error:
            findings.append(Finding(check.__name__, "unknown", repr(error), "report this"))
    return findings


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def main(
    start_ray: Annotated[
        bool, typer.Option("--start-ray", help="Start a Ray, too; seconds.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what this machine has for a search, and name each problem with its remedy."""
    findings = examine(start_ray)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            mark = "PROBLEM" if finding.problem else "ok"
            typer.echo(printable(f"{mark:<8}{finding.what:<{width}}  {finding.found}"))
            if finding.problem:
                typer.echo(printable(f"{'':<8}{'':<{width}}  problem: {finding.problem}"))
                typer.echo(printable(f"{'':<8}{'':<{width}}  remedy: {finding.remedy}"))
    if any(finding.problem and finding.stops for finding in findings):
        raise typer.Exit(3)


if __name__ == "__main__":
    run_command(main)
