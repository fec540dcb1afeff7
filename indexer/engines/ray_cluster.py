"""A Ray cluster as `--engine ray` uses it: joined or started, quiet, left as it was found.

Ray writes banners and warnings on stderr as it likes; errors of its own come as lines of ours.
"""

import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from indexer.engines.seats import Node, RayConfig
from indexer.errors import ConfigError, EngineError, StoppedError

# Only receipts travel; Ray's own default is a third of the memory.
_OBJECT_STORE_BYTES = 80 << 20
_ATTEMPTS = 3  # Ray's parts give each other 15 s to start, which a busy machine may not meet
_FOLDER_BYTES = 20  # of the path of the folder for temporary files, see `_folder`
_CONNECT_SECONDS = 10.0  # to a cluster's address; generous
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no reports to Ray's makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what it would become anyway, with a warning
}


class Interrupts:
    """SIGINT and SIGTERM are noted and not raised: inside of Ray nobody would expect an exception of ours.

    A context manager, for the main thread.
    """

    def __init__(self) -> None:
        self._came: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        self._before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Takes the signals (again, where Ray took them)."""
        for number in self._before:
            signal.signal(number, self._note)

    def check(self) -> None:
        """Raises StoppedError if one came."""
        if self._came:
            raise StoppedError(self._came[0])

    def _note(self, number: int, _: FrameType | None) -> None:
        self._came.append(number)


def load_ray() -> Any:
    """Returns the module; raises ConfigError where it is not installed."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "--engine ray needs Ray, which is not installed: pip install 'embedpool[ray]'"
        ) from error
    # Ray prints what goes wrong anywhere in a cluster on the stdout of every driver; no setting ends that.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None  # noqa: SLF001
    return ray


@contextmanager
def cluster(ray: Any, config: RayConfig, interrupts: Interrupts) -> Iterator[list[Node]]:
    """Joins the cluster at an address, or starts one on this machine; yields its nodes.

    Raises:
        EngineError: There is none, or it does not start.
        StoppedError: A signal came meanwhile.
    """
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    _check_reachable(config.address)
    folder = None if config.address else _folder()
    try:
        _start(ray, config, folder, interrupts)
        interrupts.check()
        alive = [node for node in ray.nodes() if node["Alive"]]
        yield [Node(node["NodeID"], int(node["Resources"].get("CPU", 0))) for node in alive]
    finally:
        ray.shutdown()
        interrupts.install()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # Ray's own log files, which it may still write


def _start(ray: Any, config: RayConfig, folder: str | None, interrupts: Interrupts) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            if folder is None:
                ray.init(address=config.address, **quiet)
            else:
                ray.init(
                    address="local", num_cpus=_local_cpus(config), num_gpus=0, include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES, _temp_dir=folder, **quiet,
                )  # fmt: skip
        except Exception as error:
            ray.shutdown()
            interrupts.check()
            if folder is None or attempt == _ATTEMPTS:
                what = f"cannot join the cluster at {config.address}" if config.address else "does not start"
                raise EngineError(
                    f"Ray {what}: {_first_line(error)}. A cluster started with 'ray start --head' "
                    "can be named with --ray-address"
                ) from error
        else:
            return
        finally:
            interrupts.install()


def _folder() -> str:
    """Makes a folder with a short path: Ray adds up to 64 bytes, and a socket's path has 107 at most."""
    usual = tempfile.gettempdir()
    place = usual if len(usual) <= _FOLDER_BYTES else "/tmp"  # noqa: S108 - mkdtemp is safe there
    return tempfile.mkdtemp(prefix="embedpool-ray-", dir=place)


def _check_reachable(address: str | None) -> None:
    """Raises EngineError where nothing listens: Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise EngineError(
            f"no Ray cluster answers at {address}: {error.strerror or error}; start it with "
            "'ray start --head', or mend --ray-address"
        ) from error


def _local_cpus(config: RayConfig) -> int:
    """Returns what a cluster of our own counts as CPUs: those usable, or what was asked for."""
    return max(len(os.sched_getaffinity(0)), (config.actors or 1) * (config.cpus or 1))


def _first_line(error: Exception) -> str:
    """Returns what an error says at first; Ray's say a lot."""
    words = str(error).strip().splitlines()
    return words[0] if words else type(error).__name__
