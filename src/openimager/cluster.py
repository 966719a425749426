"""Partitions of work on any executor: this process, several processes, or a Dask cluster."""

import contextlib
import logging
import math
import multiprocessing
import os
import pickle
import re
import secrets
import signal
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, wait
from itertools import islice

from openimager import __version__
from openimager.errors import BadInput, TryAgain
from openimager.store import Store

_ADDRESS = r"((tcp|tls|ucx|wss?)://)?([^\s/:]+|\[.+\]):\d{1,5}"
_TIMEOUT = 10.0  # seconds, for the connection and for the first worker
_PATIENCE = 30.0  # seconds without a result, after which we look if a cluster has workers
_MOST = 1000  # workers of each partition, and processes
_RETRIES = 2  # of a partition that raises; deaths of workers are not counted
# Partitions are pickled, so this many leading numbers of these versions must agree everywhere.
_SAME = {"openimager": 9, "pandas": 1, "python": 2}
# Exceptions, or their parents, that mean that a process died; by name, as Dask may be missing.
_DEATHS = {
    "BrokenExecutor": "A process died: it was killed, perhaps for its memory, or the script that "
    'started it lacks `if __name__ == "__main__":` around its work.',
    "CancelledError": "The connection to the scheduler was lost.",
    "KilledWorker": "Several workers died one after another on the same partition, perhaps for "
    "their memory: give them more, or fewer threads each.",
}


def run(
    task: Callable,
    partitions: Iterable,
    processes: int = 1,
    executor: Executor | None = None,
) -> Iterator[tuple]:
    """Run a task on every partition; yield each partition and its result as it completes.

    It runs in this process, in several, or on an `executor`, which is not shut down. Partitions are
    read only as fast as they are run: twice as many as can run at once are in flight, with an
    executor and `processes` above 1 that many. After an exception the others are cancelled.

    >>> [result for _, result in run(len, ["a", "bc"])]
    [1, 2]
    """
    if executor is None and processes == 1:
        yield from ((partition, task(partition)) for partition in partitions)
        return
    if executor is None:
        with _pool(processes) as executor:
            yield from run(task, partitions, executor=executor)
        return
    in_flight = processes if processes > 1 else 2 * slots(1, executor)
    waiting, running = iter(partitions), {}
    try:
        while True:
            for partition in islice(waiting, in_flight - len(running)):
                with _explained():
                    running[_submit(executor, task, partition)] = partition
            if not running:
                return
            done, _ = wait(running, _PATIENCE, FIRST_COMPLETED)
            if not done and is_dask(executor) and not executor._client.nthreads():
                # Dask itself waits in silence.
                message = "All workers are lost. Waiting for others; Ctrl-C ends the run."
                warnings.warn(message, stacklevel=2)
            for future in done:
                with _explained():
                    result = future.result()
                yield running.pop(future), result
    finally:
        for future in running:
            future.cancel()


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[Executor]:
    # "spawn", because a fork copies the locks of threads that it does not copy. Workers ignore
    # Ctrl-C, which a terminal sends to all processes.
    context, ignore = multiprocessing.get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPoolExecutor(processes, context, signal.signal, ignore)
    try:
        yield pool
    except BaseException:
        # Nobody waits for partitions in flight; a task leaves no file half written.
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _submit(executor: Executor, task: Callable, partition):
    if not is_dask(executor):
        return executor.submit(task, partition)
    # Compressed, because Dask keeps the last thousand messages to each worker.
    packed = zlib.compress(pickle.dumps((task, partition), pickle.HIGHEST_PROTOCOL), level=1)
    return executor.submit(_unpacked, packed)


def _unpacked(packed: bytes):
    task, partition = pickle.loads(zlib.decompress(packed))
    return task(partition)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn the death of workers, processes or the scheduler into `TryAgain`."""
    try:
        yield
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        if not (deaths := [why for name, why in _DEATHS.items() if name in kinds]):
            raise
        again = "What is whole is kept; run again for the rest."
        raise TryAgain(f"{deaths[0]} {again}") from None


def sizes(count: int, slots: int, most: int = 256, least: int = 32) -> Iterator[int]:
    """Yield the sizes of partitions of `count` rows, for `slots` that run at once.

    Each is `most` while many rows are left, then smaller and smaller, down to `least`, so that
    nobody waits long for the last one.

    >>> list(sizes(1000, slots=1))
    [250, 188, 141, 106, 79, 59, 45, 33, 32, 32, 32, 3]
    """
    while count > 0:
        size = min(count, most, max(least, math.ceil(count / (4 * slots))))
        yield size
        count -= size


def is_dask(executor: Executor | None) -> bool:
    """Return whether this is the executor of a Dask client."""
    return type(executor).__module__ == "distributed.cfexecutor"


def slots(processes: int, executor: Executor | None) -> int:
    """Return how many partitions run at once; of an executor that does not say, 1."""
    if executor is None or processes > 1:
        return processes
    if not is_dask(executor):
        return getattr(executor, "_max_workers", 1)
    client = executor._client
    try:
        client.wait_for_workers(1, timeout=_TIMEOUT)
    except TimeoutError:
        address = client.scheduler.address
        raise TryAgain(
            f"The scheduler {address} has no workers. Start some with `dask worker {address} "
            "--nthreads 1 --nworkers=-1` and run again."
        ) from None
    return sum(client.nthreads(executor._kwargs.get("workers")).values()) or 1


def check_counts(workers: int, processes: int, executor: Executor | None) -> None:
    """Raise BadInput if there are fewer `workers` (in all) or `processes` than 1, or too many."""
    for name, value, most in (
        ("processes", processes, _MOST),
        ("workers", workers, _MOST * slots(processes, executor)),
    ):
        if not 1 <= value <= most:
            raise BadInput(f"The number of {name} is {value}; allowed are 1 to {most:,}.")


@contextlib.contextmanager
def connected(address: str) -> Iterator[Executor]:
    """Connect to a Dask scheduler, such as ``tcp://HOST:8786``; yield an executor on its workers.

    BadInput if this is no address or Dask is not installed; TryAgain if nothing answers there.
    """
    if not re.fullmatch(_ADDRESS, address):
        raise BadInput(f"'{address}' is not the address of a scheduler: tcp://HOST:8786.")
    try:
        from distributed import Client
    except ImportError:
        install = 'pip install "openimager[cluster]"'
        raise BadInput(f"--dask needs the package distributed: {install}.") from None
    # What ends a run is reported in one sentence; the log of Dask would repeat it in tracebacks.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):  # `check` compares the versions
            client = Client(address, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        # A TypeError means that the TLS options are missing or wrong.
        kind = BadInput if isinstance(error, TypeError) else TryAgain
        raise kind(
            f"The scheduler {address} cannot be reached ({error}). Start it with `dask scheduler`, "
            "or correct the address; for tls:// set the TLS options of Dask as for the scheduler, "
            "such as DASK_DISTRIBUTED__COMM__TLS__CA_FILE."
        ) from None
    with client:
        yield client.get_executor(pure=False, retries=_RETRIES)


def check(executor: Executor | None, store: Store, *folders: str | os.PathLike) -> None:
    """Raise BadInput unless every worker of a Dask cluster can work; other executors pass.

    Scheduler and workers must have this version of openimager, and workers must write to the store
    and see the folders, such as that of a local site.
    """
    if not is_dask(executor):
        return
    if executor._kwargs.get("pure", True):
        raise BadInput("Dask merges equal tasks: give executor=client.get_executor(pure=False).")
    client = executor._client
    workers = list(client.nthreads(executor._kwargs.get("workers")))
    found = client.get_versions(packages=["openimager"])  # and of what Dask itself needs
    places = {f"The worker {name}": versions for name, versions in found["workers"].items()}
    here = _versions(found["client"])
    for place, versions in {"The scheduler": found["scheduler"], **places}.items():
        if (there := _versions(versions)) != here:
            install = f'pip install "openimager[cluster,s3]=={__version__}"'
            raise BadInput(
                f"{place} has {there}; this client has {here}. Install the same everywhere "
                f"({install}) and restart scheduler and workers."
            )
    token, folders = f".openimager/seen-{secrets.token_hex(8)}", [*map(os.path.abspath, folders)]
    store.write(store.path(token), b"client")
    try:
        answers = client.run(_sees, store, token, folders, workers=workers, on_error="return")
    finally:
        store.remove(store.path(token))
    for worker, error in answers.items():
        if error:
            raise BadInput(
                f"The worker {worker} cannot use {store.root} or the site: {type(error).__name__}: "
                f"{error}. Give a folder that every machine has mounted there, or a bucket "
                "(s3://bucket/folder) with the same AWS_* variables for every worker."
            )


def _versions(place: dict | None) -> str:
    """Return the versions that matter, such as "openimager 0.1.0, pandas 3, python 3.12"."""
    found = (place or {}).get("packages", {})
    return ", ".join(
        f"{name} {'.'.join(found[name].split('.')[:few])}" if found.get(name) else f"no {name}"
        for name, few in _SAME.items()
    )


def _sees(store: Store, token: str, folders: list[str]) -> None:
    """Raise an exception if this process cannot read and write what the client sees."""
    store.read(store.path(token))
    for folder in folders:
        os.listdir(folder)
    own = store.path(f"{token}-{secrets.token_hex(8)}")
    store.write(own, b"worker")
    store.remove(own)
