"""The Ray that a search runs on: one of its own on this machine, or one it was told to join.

Our own listens on the loopback interface only and takes nobody without its token, which lies
in a temporary folder of this user's and goes when Ray does. A cluster that runs is never
joined unasked, whatever ``RAY_ADDRESS`` says, and left as it was found.
"""

import contextlib
import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray._private import ray_constants
from ray.job_config import JobConfig

from tune_adaptive.errors import EnvironmentFault, InputError, last_line
from tune_adaptive.ray_backend.sessions import session_folder, store_folder
from tune_adaptive.signals.capacity import Capacity, NodeCapacity
from tune_adaptive.system.interrupts import deferred, on_interrupt, withheld_from_children
from tune_adaptive.system.packages import is_installed

try:
    from ray._raylet import (  # type: ignore[attr-defined]  # its stub lacks them
        AuthenticationTokenLoader,
        Config,
    )
except ImportError:  # an older Ray, which asks for no token
    AuthenticationTokenLoader = None

NO_TOKEN = (
    "warning: this Ray is too old to ask for a token: every user of this machine can reach the "
    "search, and run code by it; pip install --upgrade 'ray[tune]'"
)
DASHBOARD_NEEDS = ("aiohttp_cors", "opencensus", "prometheus_client")  # of ray[default]
MIN_OBJECT_STORE_BYTES = 256 * 2**20
CONNECT_S = 5.0
FREE_NODE_S = 600.0
"""How long one trial's share of a cluster may take to become free [s]."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Where Ray's dashboard is, and the file of the token that it asks for.

    Attributes:
        url: On loopback, where it is our own.
        token_path: None where it is that of a cluster that was joined.
    """

    url: str
    token_path: Path | None

    @staticmethod
    def check() -> None:
        """Check that Ray has what its dashboard needs.

        Raises:
            EnvironmentFault: It is not installed.
        """
        if lacking := [name for name in DASHBOARD_NEEDS if not is_installed(name)]:
            raise EnvironmentFault(
                f"--dashboard needs {', '.join(lacking)}: pip install 'tune-adaptive[dashboard]'"
            )

    def __str__(self) -> str:
        whose = f"asks for the token in {self.token_path}" if self.token_path else "is its owner's"
        if self.token_path and not asks_for_token():
            whose = "lets every user of this machine in: this Ray is too old for tokens"
        return f"dashboard: {self.url}, which {whose}"


@contextlib.contextmanager
def cluster(
    address: str | None,
    num_cpus: int,
    num_gpus: int,
    data_bytes: int,
    verbose: bool = False,
    show_dashboard: Callable[[Dashboard], None] | None = None,
    nice: int = 0,
) -> Iterator[None]:
    """Join the cluster at ``address``, or start a Ray of our own; leave or stop it after.

    A Ray that this process has already connected to is used, and left running.

    Args:
        address: ``HOST:PORT`` or ``auto``; None starts our own.
        num_cpus: What our own has.
        num_gpus: The same.
        data_bytes: What will be put in its object store.
        verbose: Show Ray's own logs.
        show_dashboard: Is told where the dashboard is, once it is up; None starts none. On a
            cluster that is joined it is its owner's, if there is one.
        nice: What our own adds to the niceness of this process for its workers, in [0, 19].

    Raises:
        KeyboardInterrupt: A signal asked for it while Ray started or stopped.
        EnvironmentFault: There is no such cluster, or it does not let us in.
    """
    if ray.is_initialized():
        yield
    elif address is not None:
        with joined(address, verbose) as url:
            if show_dashboard is not None and url:
                show_dashboard(Dashboard(f"http://{url}", None))
            yield
    else:
        store_bytes = max(MIN_OBJECT_STORE_BYTES, 3 * data_bytes)
        with own_ray(num_cpus, num_gpus, store_bytes, verbose, show_dashboard, nice):
            yield


# ------------------------------------------------------------------------- our own


@contextlib.contextmanager
def own_ray(
    num_cpus: int,
    num_gpus: int,
    object_store_bytes: int,
    verbose: bool = False,
    show_dashboard: Callable[[Dashboard], None] | None = None,
    nice: int = 0,
) -> Iterator[None]:
    """Start a Ray on this machine that only this user's processes with its token reach.

    Raises:
        EnvironmentFault: It does not start.
    """
    sessions = session_folder()
    with _token() as token, _resolving_to_loopback():
        try:
            # By default Ray's workers run at nice 15, and get next to nothing on a busy machine.
            niceness = _environment("RAY_worker_niceness", str(nice))
            with deferred(), withheld_from_children(), niceness, _said_why(sessions):
                started = ray.init(
                    address="local",
                    job_config=_OurPath(),
                    num_cpus=num_cpus,
                    num_gpus=num_gpus,
                    include_dashboard=show_dashboard is not None,
                    dashboard_host="127.0.0.1",
                    log_to_driver=verbose,
                    logging_level=logging.INFO if verbose else logging.ERROR,
                    object_store_memory=object_store_bytes,
                    _temp_dir=str(sessions),
                    _plasma_directory=store_folder(sessions),
                )
            if not asks_for_token():
                print(NO_TOKEN, file=sys.stderr)
            if show_dashboard is not None:
                show_dashboard(Dashboard(f"http://{started.dashboard_url}", token))
            yield
        finally:
            _shut_down()


@contextlib.contextmanager
def _said_why(sessions: Path) -> Iterator[None]:
    """Make one message of what Ray raises where it does not start."""
    try:
        yield
    except (Exception, SystemExit) as error:  # the second is how Ray gives up on its own server
        raise EnvironmentFault(
            f"Ray does not start: {last_line(str(error)) or repr(error)} (its logs are below "
            f"{sessions}/session_latest/logs; `tune-adaptive doctor` looks for the cause)"
        ) from error


def asks_for_token() -> bool:
    """Whether this Ray takes nobody without a token; older ones know none."""
    return AuthenticationTokenLoader is not None


@contextlib.contextmanager
def _token() -> Iterator[Path]:
    """Give the Ray that is started here a token of its own.

    Ray 2.60 asks for one by itself, but keeps it for ever in the home directory, where other
    users may read it.
    """
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="tune-adaptive-") as folder:  # mode 0700
        path = Path(folder) / "token"
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
        _read_authentication_again()
        try:
            yield path
        finally:
            for name in names:
                os.environ.pop(name, None)
            os.environ |= before
            _read_authentication_again()


def _read_authentication_again() -> None:
    if AuthenticationTokenLoader is None:
        return
    Config.initialize("")  # before the token is forgotten, or a late thread of Ray's aborts
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _resolving_to_loopback() -> Iterator[None]:
    """Let Ray take loopback for this machine's address.

    It listens on all interfaces wherever its address is another, and replaces a loopback
    address that it is told by another, unless it believes that there are no clusters, as on
    macOS and Windows.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


class _OurPath(JobConfig):
    """Gives the workers the folders that Python has on this process's path, no others.

    Ray would put the working directory first on theirs, even where Python keeps it off ours,
    as it does for an installed command: modules in a folder that a stranger sent would run.
    """

    _py_driver_sys_path: list[str]

    def _get_proto_job_config(self) -> Any:
        ours = {os.path.abspath(path) for path in sys.path}
        self._py_driver_sys_path = [path for path in self._py_driver_sys_path if path in ours]
        return super()._get_proto_job_config()


def _shut_down() -> None:
    asked: list[bool] = []
    with on_interrupt(lambda: asked.append(True)):  # a second one must not leave workers behind
        ray.shutdown()
    if asked and sys.exc_info()[0] is None:  # what happened first is what is reported
        raise KeyboardInterrupt


# ----------------------------------------------------------------------- another's


@contextlib.contextmanager
def joined(address: str, verbose: bool = False) -> Iterator[str]:
    """Connect to the cluster at ``address``, give its dashboard's address, let go of it after.

    Args:
        address: ``HOST:PORT``, or ``auto``: what ``RAY_ADDRESS`` says or runs on this machine.
        verbose: Show Ray's own logs.

    Raises:
        EnvironmentFault: It cannot be reached, is another version or asks for another token,
            or this machine is none of its nodes.
    """
    _knock(address)
    try:
        # Ray would ask a server that refuses it twenty times.
        impatient = _environment("RAY_gcs_server_port_wait_time_s", "1")
        with deferred(), _resolving_to_loopback(), impatient:
            started = ray.init(
                address=address,
                job_config=_OurPath(),
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
            )
    except KeyboardInterrupt:
        _shut_down()
        raise
    except (Exception, SystemExit) as error:  # the second is how Ray gives up on a server
        _shut_down()
        raise EnvironmentFault(f"--address {address}: {_why_not(address, error)}") from error
    try:
        yield str(started.dashboard_url or "")
    finally:
        _shut_down()


def _knock(address: str) -> None:
    """See whether anything answers; Ray asks for a minute and a half before it gives up."""
    stands_for = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, _, port = stands_for.rpartition(":")
    if not (host and port.isdecimal()):
        return  # Ray looks for one on this machine
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        whence = f" (RAY_ADDRESS={stands_for})" if stands_for != address else ""
        raise EnvironmentFault(
            f"--address {address}{whence}: nothing answers there ({error}); is it what `ray start "
            "--head` printed?"
        ) from error


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable that Ray reads when it starts, unless it is set already."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _why_not(address: str, error: BaseException) -> str:
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    told = " ".join(map(str, causes))
    if "Could not find any running Ray" in told:
        return "no Ray runs on this machine; start one (ray start) or give HOST:PORT"
    if "ersion mismatch" in told:
        return str(error)
    if "node info" in told:
        return (
            "this machine is none of its nodes. Run the search on one of them, or make this one "
            f"a node: ray start --address={address}"
        )
    if "uthenticat" in told or isinstance(error, ConnectionError | SystemExit):
        return (
            "it does not let us in. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file "
            "of its token, if it has one; else what answers there is no Ray"
        )
    return last_line(str(error)) or repr(error)


def capacity() -> Capacity:
    """Return what the nodes of the connected cluster have."""
    return Capacity(
        [
            NodeCapacity(
                cpus=int(node["Resources"].get("CPU", 0)),
                gpus=int(node["Resources"].get("GPU", 0)),
                object_store_bytes=int(node["Resources"].get("object_store_memory", 0)),
            )
            for node in ray.nodes()
            if node["Alive"]
        ],
        is_joined=True,
    )


def on_a_worker(
    function: Callable[..., T], cpus: float, gpus: float, *arguments: Any, **named: Any
) -> T:
    """Call ``function`` in a process of the connected cluster that has a trial's share.

    Raises:
        EnvironmentFault: No such share becomes free, or the call fails there.
    """
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(function)
    waiting = remote.remote(*arguments, **named)
    try:
        return ray.get(waiting, timeout=FREE_NODE_S)
    except ray.exceptions.GetTimeoutError as error:
        raise EnvironmentFault(
            f"the cluster had no {cpus:g} CPUs and {gpus:g} GPUs free for {FREE_NODE_S:.0f} s; "
            "is it busy with other jobs?"
        ) from error
    except ray.exceptions.RayError as error:
        raised = getattr(error, "cause", None)
        if isinstance(raised, InputError | EnvironmentFault):
            raise raised from error
        raise EnvironmentFault(
            "a worker of the cluster cannot train; this package, and yours, must be installed on "
            f"every node: {last_line(str(error))}"
        ) from error
