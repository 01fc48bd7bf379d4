"""Rows of the table of hostile inputs: environments.

Machines, users and folders that are not what was assumed. Where the machine can be pretended it is
patched in this process.
"""

import errno
import getpass
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from tests.hostile.row import Row
from tune_adaptive.signals.limits import Limits

Patch = Callable[[pytest.MonkeyPatch, Path], None]

QUICK = (
    "search --precision fp32 --signals steady --epochs 1 --budget 1 --final-seeds 1 "
    "--train-size 640 --schedule adaptive --schedule step --name x"
)
PLAN = f"{QUICK} --plan"
LONG = "x" * 80


def variable(name: str, value: str) -> Patch:
    """Set a variable that is read when the command runs; ``{here}`` is the row's folder."""

    def patch(with_: pytest.MonkeyPatch, folder: Path) -> None:
        with_.setenv(name, value.replace("{here}", str(folder)))
        with_.setattr(tempfile, "tempdir", None)

    return patch


def replaced(target: str, value: object) -> Patch:
    """Replace an attribute."""
    return lambda with_, folder: with_.setattr(target, value)


def together(*patches: Patch) -> Patch:
    """Do several."""

    def patch(with_: pytest.MonkeyPatch, folder: Path) -> None:
        for each in patches:
            each(with_, folder)

    return patch


def raising(error: BaseException) -> Callable[..., None]:
    """Return a function that raises."""

    def function(*arguments: object, **named: object) -> None:
        raise error

    return function


# ----------------------------------------------------------------- Ray's folders and addresses

RAY = (
    *(
        Row(f"RAY_TMPDIR: {what}", PLAN, 3, message, patch=variable("RAY_TMPDIR", value))
        for what, value, message in (
            ("too long", f"/tmp/{LONG}", r"RAY_TMPDIR=/tmp/x+: too long by \d+ bytes"),
            ("too long in UTF-8 only", f"/tmp/{'é' * 20}", "RAY_TMPDIR=/tmp/é+: too long by"),
            ("below a file", "/dev/null/x", "RAY_TMPDIR=/dev/null/x: /dev/null is no folder"),
            ("a name that is too long", f"/tmp/{'y' * 300}", "RAY_TMPDIR=/tmp/y+: too long"),
        )
    ),
    Row(
        "no folder for Ray's sessions",
        PLAN,
        3,
        r"Ray has no folder for its sessions: .*cannot be written.* Set RAY_TMPDIR",
        patch=replaced("os.access", lambda path, mode: False),
    ),
    Row(
        "no temporary folder",
        PLAN,
        3,
        "No usable temporary directory found .*set TMPDIR",
        patch=together(
            replaced("tempfile._candidate_tempdir_list", list), variable("TMPDIR", "/no/such")
        ),
    ),
    Row(
        "TMPDIR too long for sockets",
        PLAN,
        0,
        "plan of x",
        given=lambda folder: (folder / LONG).mkdir(),
        patch=variable("TMPDIR", f"{{here}}/{LONG}"),
    ),
    Row("TMPDIR that is not there", PLAN, 0, "plan of x", patch=variable("TMPDIR", "/no/such")),
    Row(
        "Ray does not start",
        QUICK,
        3,
        r"Ray does not start: .*Address already in use",
        patch=together(
            replaced("ray.is_initialized", lambda: False),
            replaced("ray.shutdown", lambda: None),
            replaced("ray.init", raising(OSError(errno.EADDRINUSE, "Address already in use"))),
        ),
    ),
    Row(
        "a stale RAY_ADDRESS",
        f"{PLAN} --address auto",
        3,
        r"--address auto \(RAY_ADDRESS=127.0.0.1:1\): nothing answers there",
        patch=variable("RAY_ADDRESS", "127.0.0.1:1"),
    ),
    Row(
        "no Ray at the address",
        f"{PLAN} --address 127.0.0.1:1",
        3,
        "--address 127.0.0.1:1: nothing answers there",
    ),
    Row("RAY_ADDRESS, unasked", PLAN, 0, "plan of x", patch=variable("RAY_ADDRESS", "127.0.0.1:1")),
)

# ---------------------------------------------------------------------------- odd names


def named(name: str) -> Patch:
    """Go to a folder of this name."""

    def patch(with_: pytest.MonkeyPatch, folder: Path) -> None:
        (folder / name).mkdir()
        with_.chdir(folder / name)

    return patch


def moved_to(name: str) -> Callable[[Path], None]:
    """Move the finished experiment into a folder of this name in its own place."""

    def given(folder: Path) -> None:
        (folder / "finished").rename(folder / "moved")
        (folder / "finished").mkdir()
        (folder / "moved").rename(folder / "finished" / name)

    return given


NAMES = ("My%20Drive", "a?b#c", "{SCHEMA_VERSION}", "a::b", "[a]*", "~x", "$HOME;&=", "文é")
NAMES_OF_FOLDERS = (
    *(
        Row(f"planned in a folder {name}", PLAN, 0, "plan of x", patch=named(name))
        for name in ("My%20Drive", "a::b[c]*", "a b'\"{c}", "a\nb")
    ),
    *(
        Row(
            f"the status of an experiment in {name}",
            f"status {{finished}}/{name.replace('{', '{{').replace('}', '}}')}",
            0,
            "small",
            given=moved_to(name),
        )
        for name in NAMES
    ),
    *(
        Row(
            f"{option}: not UTF-8",
            f"{PLAN} {task} {option} a\udcffb",
            2,
            rf"{option} 'a\\udcffb': .*UTF",
        )
        for task, option in (
            *(("", option) for option in ("--results-dir", "--space", "--storage-path")),
            *(("--task ag_news/bert", option) for option in ("--data-dir", "--model-path")),
        )
    ),
    Row("a zero byte", f"{PLAN} --storage-path a\0b", 2, r"--storage-path 'a\\x00b': the plan"),
    *(
        Row(
            f"{option}: no such user",
            f"search --plan --precision fp32 {option}",
            2,
            ".*: there is no user 'nobody-x' here",
        )
        for option in (
            "--storage-path ~nobody-x/kept",
            "--signals replay:~nobody-x/signals.jsonl",
            "--task ag_news/bert --model-path ~nobody-x/bert",
        )
    ),
    Row(
        "--storage-path: a memory",
        f"{PLAN} --storage-path memory://x",
        2,
        "--storage-path memory://x: each process would have a memory of its own",
    ),
    Row(
        "--results-dir: a name that is too long",
        f"{PLAN} --results-dir {'y' * 300}",
        3,
        "--results-dir y+: .*File name too long",
    ),
    Row("--results-dir: below a device", f"{PLAN} --results-dir /dev/null/x", 3, "--results-dir"),
)

# ---------------------------------------------------------------------------- trackers

ONLY_FOLDERS = replaced(
    "tune_adaptive.system.packages.find_spec", lambda name: ModuleSpec(name, None)
)
TRACKERS = (
    *(
        Row(f"a folder ./{name} and no package", f"{PLAN} {option}", 3, message, patch=ONLY_FOLDERS)
        for name, option, message in (
            ("wandb", "--track wandb", "--track wandb: needs a package: pip install wandb"),
            ("mlflow", "--track mlflow", "--track mlflow: needs a package: pip install mlflow"),
            ("tensorboardX", "--track tensorboard", "--track tensorboard: needs a package"),
            ("opencensus", "--dashboard", "--dashboard needs .*opencensus"),
            ("schedulefree", "--schedule schedule_free", "schedule 'schedule_free' needs the"),
            ("prodigyopt", "--schedule prodigy", "schedule 'prodigy' needs the package"),
        )
    ),
    Row(
        "TensorBoard's folder is a file",
        f"{QUICK} --track tensorboard:{{here}}/file",
        3,
        "--track tensorboard: .*Not a directory",
        given=lambda folder: (folder / "file").touch(),
    ),
    Row(
        "MLflow's server does not answer",
        f"{QUICK} --track mlflow:http://127.0.0.1:1",
        3,
        "--track mlflow: nothing answers at http://127.0.0.1:1",
        patch=replaced("urllib.request.getproxies", dict),
    ),
    Row(
        "MLflow's file has no folder",
        f"{QUICK} --track mlflow:sqlite:////no/such/folder/x.db",
        3,
        "--track mlflow: .*Permission denied: '/no/such/folder/x.db'",
    ),
)

# ------------------------------------------------------------------------------- locks


def without_locks(number: int) -> Patch:
    """Let the file system have no locks."""
    return replaced("fcntl.flock", raising(OSError(number, os.strerror(number))))


LOCKS = (
    *(
        Row(
            f"--resume, no locks ({errno.errorcode[number]})",
            "search --resume {finished}",
            2,
            ".*it ran to its end",
            patch=without_locks(number),
        )
        for number in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EPERM, errno.EIO)
    ),
    Row(
        "--resume, no locks, held",
        "search --resume {finished}",
        2,
        ".*is running it; if it has ended, remove .*lock.file",
        given=lambda folder: _hold(folder / "finished"),
        patch=without_locks(errno.ENOLCK),
    ),
)


def _hold(experiment: Path) -> None:
    (experiment / "lock.file").write_text("1\nanother-host\n")


# ------------------------------------------------------- users, packages, containers, NVML


def nobody(with_: pytest.MonkeyPatch, folder: Path) -> None:
    """Be a user without an entry in passwd, without HOME and USER."""
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        with_.delenv(name, raising=False)
    unknown = raising(KeyError("getpwuid(): uid not found"))
    with_.setattr("pwd.getpwuid", unknown)
    with_.setattr("pwd.getpwnam", unknown)
    with pytest.raises(KeyError):
        getpass.getuser()


def nobody_else(folder: Path) -> None:
    """Write what makes a process of its own such a user from its first line on."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(
        "import os, pwd\n"
        "def unknown(who):\n    raise KeyError('uid not found')\n"
        "pwd.getpwuid = pwd.getpwnam = unknown\n"
        "for name in ('HOME', 'USER', 'LOGNAME', 'LNAME', 'USERNAME'):\n"
        "    os.environ.pop(name, None)\n"
    )


def _not_installed(*names: str) -> Patch:
    find = importlib.metadata.distribution

    def absent(name: str) -> importlib.metadata.Distribution:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return find(name)

    return replaced("importlib.metadata.distribution", absent)


def limited(cpus: float) -> Patch:
    """Be in a container with a quota on a machine of 64 cores."""
    return together(
        replaced("os.sched_getaffinity", lambda pid: set(range(64))),
        replaced("tune_adaptive.signals.capacity.read_limits", lambda: Limits(cpus=cpus)),
    )


def pynvml(module: object) -> Patch:
    """Let another module own the name."""
    return lambda with_, folder: with_.setitem(sys.modules, "pynvml", module)


OFFLINE = replaced("huggingface_hub.constants.HF_HUB_OFFLINE", True)
MACHINES = (
    Row("a user without a name", PLAN, 0, "plan of x", patch=nobody),
    Row(
        "a process of a user without a name",
        PLAN,
        0,
        "plan of x",
        given=nobody_else,
        environment={"PYTHONPATH": "{here}/site"},
        slow=True,
    ),
    Row(
        "the doctor of a user without a name",
        "doctor",
        0,
        "Ray's sessions",
        given=nobody_else,
        environment={"PYTHONPATH": "{here}/site", "HF_HUB_OFFLINE": "1"},
        slow=True,
    ),
    Row("not installed", PLAN, 0, "plan of x", patch=_not_installed("tune-adaptive")),
    Row(
        "the doctor, not installed",
        "doctor",
        0,
        "which was not installed",
        patch=together(_not_installed("tune-adaptive"), OFFLINE),
        slow=True,
    ),
    Row("a dependency without metadata", PLAN, 0, "plan of x", patch=_not_installed("ray")),
    *(
        Row(
            f"a quota of {cpus} CPUs",
            PLAN,
            0,
            f"{slots} (concurrent trials|concurrently)",
            patch=limited(cpus),
        )
        for cpus, slots in ((2.0, 2), (3.7, 3), (0.25, 1))
    ),
    Row(
        "more CPUs a trial than the quota",
        f"{PLAN} --cpus-per-trial 8",
        3,
        ".*",
        patch=limited(2.0),
    ),
    *(
        Row(f"pynvml: {what}", PLAN, 0, "plan of x", patch=pynvml(module))
        for what, module in (("another's", ModuleType("pynvml")), ("cannot be imported", None))
    ),
    Row(
        "the doctor, pynvml is another's",
        "doctor",
        0,
        "pip uninstall pynvml",
        patch=together(
            pynvml(ModuleType("pynvml")),
            replaced("importlib.metadata.packages_distributions", lambda: {"pynvml": ["pynvml"]}),
            OFFLINE,
        ),
    ),
    Row(
        "the doctor, nowhere for Ray's sessions",
        "doctor",
        3,
        "",
        patch=together(variable("RAY_TMPDIR", f"/tmp/{LONG}"), OFFLINE),
        slow=True,
    ),
)

ROWS: tuple[Row, ...] = (*RAY, *NAMES_OF_FOLDERS, *TRACKERS, *LOCKS, *MACHINES)
