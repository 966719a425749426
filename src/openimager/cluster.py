"""Dask: connecting to a cluster, and what must hold there before the first photo.

Dask runs the partitions; `openimager.partitions` feeds it through the executor of its client.
"""

import contextlib
import logging
import os
import pickle
import re
import secrets
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future

from openimager import __version__
from openimager.errors import BadInput, TryAgain
from openimager.store import Store

_ADDRESS = r"((tcp|tls|ucx|wss?)://)?([^\s/:]+|\[.+\]):\d{1,5}"
_TIMEOUT = 10.0  # seconds, for the connection and for the first worker
_RETRIES = 2  # of a partition that raises; deaths of workers are not counted
# What must be the same everywhere, to how many numbers of the version: partitions are pickled.
_SAME = {"python": 2, "pandas": 1, "openimager": 9}
# Exceptions (or their parents) that mean the death of a process, by name: Dask may be missing.
_DEATHS = {
    "BrokenExecutor": "A process died: it was killed, perhaps for its memory, or the script that "
    'started it lacks `if __name__ == "__main__":` around its work.',
    "CancelledError": "The connection to the scheduler was lost.",
    "KilledWorker": "Several workers died one after another on the same partition, perhaps for "
    "their memory: give them more, or fewer threads each.",
}


@contextlib.contextmanager
def connected(address: str) -> Iterator[Executor]:
    """Connect to the scheduler at ``tcp://HOST:8786``; yield an executor that runs on its workers.

    BadInput if this is no address or Dask is not installed; TryAgain if nothing answers there.
    """
    if not re.fullmatch(_ADDRESS, address):
        raise BadInput(f"'{address}' is not the address of a scheduler: tcp://HOST:8786.")
    try:
        from distributed import Client
    except ImportError:
        install = 'pip install "openimager[cluster]"'
        raise BadInput(f"--dask needs the package distributed: {install}.") from None
    # Whatever ends a run is said in one sentence; the log of Dask would repeat it in tracebacks.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):  # `check` compares the versions
            client = Client(address, timeout=_TIMEOUT, set_as_default=False)
    except TypeError as error:
        raise BadInput(
            f"{address} cannot be used ({error}). tls:// needs certificates: set "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE and the other TLS options of Dask, as for the "
            "scheduler."
        ) from None
    except (OSError, ValueError) as error:
        raise TryAgain(
            f"The scheduler {address} cannot be reached ({error}). Start it with `dask scheduler`, "
            "or correct the address."
        ) from None
    with client:
        yield client.get_executor(pure=False, retries=_RETRIES)


def is_dask(executor: Executor | None) -> bool:
    """Return whether this is the executor of a Dask client."""
    return type(executor).__module__ == "distributed.cfexecutor"


def slots(executor: Executor) -> int:
    """Return how many partitions an executor runs at once, 1 if it does not say."""
    if not is_dask(executor):
        return getattr(executor, "_max_workers", 1)
    client = executor._client
    try:
        client.wait_for_workers(1, timeout=_TIMEOUT)
    except TimeoutError:
        address = client.scheduler.address
        raise TryAgain(
            f"The scheduler {address} has no workers. Start some with `dask worker {address} "
            "--nthreads 1 --nworkers auto` and run again."
        ) from None
    return sum(_workers(executor).values()) or 1


def check(executor: Executor | None, store: Store, *folders: str | os.PathLike) -> None:
    """Raise BadInput unless every worker of a Dask cluster can do the work.

    Scheduler and workers must have this version of openimager, and workers must write to the store
    and see the folders, such as that of a local site. Other executors pass.
    """
    if not is_dask(executor):
        return
    if executor._kwargs.get("pure", True):
        raise BadInput("Dask merges equal tasks: give executor=client.get_executor(pure=False).")
    _check_versions(executor._client)
    token = f".openimager/seen-{secrets.token_hex(8)}"
    seen = [os.path.abspath(folder) for folder in folders]
    store.write(store.path(token), b"client")
    try:
        answers = executor._client.run(
            _sees, store, token, seen, workers=[*_workers(executor)], on_error="return"
        )
    finally:
        store.remove(store.path(token))
    if blind := {worker: why for worker, why in answers.items() if why}:
        worker, why = next(iter(blind.items()))
        raise BadInput(
            f"{len(blind)} of {len(answers)} workers cannot use {store.root} or the site: the "
            f"worker {worker} says: {why}. Give a folder that every machine has mounted there, or "
            "a bucket (s3://bucket/folder) with the same AWS_* variables for every worker."
        )


def _check_versions(client) -> None:
    found = client.get_versions(packages=["openimager"])
    places = {"The scheduler": found["scheduler"]}
    places |= {f"The worker {address}": one for address, one in found["workers"].items()}
    here = found["client"]["packages"] | {"openimager": __version__}
    wrong = []
    for place, versions in places.items():
        for package, numbers in _SAME.items():
            there = (versions or {}).get("packages", {}).get(package) or "none"
            if there.split(".")[:numbers] != here[package].split(".")[:numbers]:
                has = f"has no {package}" if there == "none" else f"has {package} {there}"
                wrong.append(f"{place} {has}, this client {here[package]}")
    if wrong:
        raise BadInput(
            f"{wrong[0]} ({len(wrong)} such differences in all). Install the same everywhere "
            f'(pip install "openimager[cluster,s3]=={__version__}", Python {here["python"][:4]}) '
            "and restart scheduler and workers."
        )


def _sees(store: Store, token: str, folders: list[str]) -> str:
    """Return why this process cannot read and write what the client sees, or ""."""
    try:
        store.read(store.path(token))
        for folder in folders:
            os.listdir(folder)
        own = store.path(f"{token}-{secrets.token_hex(8)}")
        store.write(own, b"worker")
        store.remove(own)
    except Exception as error:  # whatever it is, the client reports it
        return f"{type(error).__name__}: {error}"
    return ""


def _workers(executor: Executor) -> dict[str, int]:
    """Return the threads of each worker that the executor may use."""
    return executor._client.nthreads(executor._kwargs.get("workers"))


def warn_if_empty(executor: Executor) -> None:
    """Warn if a Dask cluster has no workers at the moment; Dask itself waits in silence."""
    if is_dask(executor) and not executor._client.nthreads():
        warnings.warn(
            "The cluster has lost all its workers. Waiting for others; Ctrl-C ends the run.",
            stacklevel=2,
        )


def submit(executor: Executor, task: Callable, partition) -> Future:
    """Submit a task; to Dask compressed, since it keeps its last thousand messages."""
    if not is_dask(executor):
        return executor.submit(task, partition)
    packed = zlib.compress(pickle.dumps((task, partition), pickle.HIGHEST_PROTOCOL), level=1)
    return executor.submit(_unpacked, packed)


def _unpacked(packed: bytes):
    task, partition = pickle.loads(zlib.decompress(packed))
    return task(partition)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn the death of workers, processes or the scheduler into `TryAgain`."""
    try:
        yield
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        if not (deaths := [why for name, why in _DEATHS.items() if name in kinds]):
            raise
        again = "What is whole is kept; run again for the rest."
        raise TryAgain(f"{deaths[0]} {again}") from None
