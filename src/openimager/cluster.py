"""Dask: connecting to a cluster, and what must hold there before the first photo.

Dask runs the partitions; `openimager.partitions` feeds it through the executor of its client.
"""

import contextlib
import logging
import os
import pickle
import re
import secrets
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future

from openimager import __version__
from openimager.errors import BadInput, TryAgain
from openimager.store import Store

_TIMEOUT = 10.0  # seconds, for the connection and for the first worker
_RETRIES = 2  # of a partition that raises; deaths of workers are not counted
# What must be the same everywhere, to how many numbers of the version: partitions are pickled.
_SAME = {"python": 2, "pandas": 1, "openimager": 9}


@contextlib.contextmanager
def connected(address: str) -> Iterator[Executor]:
    """Connect to a Dask scheduler; yield an executor that runs partitions on its workers.

    Parameters
    ----------
    address : str
        Such as ``"tcp://scheduler:8786"``; what ``dask scheduler`` prints.

    Raises
    ------
    BadInput
        If this is no address, or `distributed` is not installed.
    TryAgain
        If the scheduler cannot be reached or has no workers.
    """
    if not re.fullmatch(r"(?:(?:tcp|tls|ucx|wss?)://)?[^\s/:]+:\d{1,5}|\w+://\[.+\]:\d+", address):
        raise BadInput(f"'{address}' is not the address of a scheduler: tcp://HOST:8786.")
    try:
        from distributed import Client, Security
    except ImportError:
        install = 'pip install "openimager[cluster]"'
        raise BadInput(f"--dask needs the package distributed: {install}.") from None
    if address.startswith("tls:") and not Security().get_connection_args("client")["ssl_context"]:
        raise BadInput(
            f"{address} needs certificates: set DASK_DISTRIBUTED__COMM__TLS__CA_FILE and the other "
            "TLS options of Dask, as for the scheduler."
        )
    # Whatever ends a run is said in one sentence; the log of Dask would repeat it in tracebacks.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # `check` says what matters of this.
            warnings.filterwarnings("ignore", message="[\\s\\S]*version", category=UserWarning)
            client = Client(address, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise TryAgain(
            f"The scheduler {address} cannot be reached ({error}). Start it with `dask scheduler`, "
            "or correct the address."
        ) from None
    with client:
        yield client.get_executor(pure=False, retries=_RETRIES)


def is_dask(executor: Executor | None) -> bool:
    """Return whether this is the executor of a Dask client.

    Examples
    --------
    >>> is_dask(None)
    False
    """
    module = sys.modules.get("distributed.cfexecutor")
    return module is not None and isinstance(executor, module.ClientExecutor)


def slots(executor: Executor) -> int:
    """Return how many partitions an executor runs at once, 1 if it does not say.

    Raises
    ------
    TryAgain
        If a Dask cluster has no workers.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> slots(ThreadPoolExecutor(3))
    3
    """
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
    threads = client.nthreads()
    return sum(threads.get(worker, 0) for worker in _workers(executor) or threads) or 1


def check(executor: Executor | None, store: Store, *folders: str | os.PathLike) -> None:
    """Check, before the first partition, that every worker can do the work.

    Any other executor than Dask's passes.

    Parameters
    ----------
    executor : concurrent.futures.Executor, optional
    store : Store
        Every worker must read and write there.
    *folders : path-like
        Folders that every worker must see, such as that of a local site.

    Raises
    ------
    BadInput
        If a worker or the scheduler has no openimager or another version of it, a worker does not
        see the data directory or a folder, or the executor merges equal tasks.
    TryAgain
        If there are no workers.
    """
    if not is_dask(executor):
        return
    if executor._kwargs.get("pure", True):
        raise BadInput("Dask merges equal tasks: give executor=client.get_executor(pure=False).")
    _check_versions(executor._client)
    _check_visible(executor, store, [os.path.abspath(folder) for folder in folders])


def _check_versions(client) -> None:
    found = client.get_versions(packages=["openimager"])
    places = {"The scheduler": found["scheduler"]} | {
        f"The worker {address}": versions for address, versions in found["workers"].items()
    }
    here = found["client"]["packages"] | {"openimager": __version__}
    wrong = Counter()
    for place, versions in places.items():
        for package, numbers in _SAME.items():
            there = (versions or {}).get("packages", {}).get(package)
            if _begins(there, numbers) != _begins(here[package], numbers):
                wrong[package, there] += 1
                example = place
    if wrong:
        (package, there), _ = wrong.most_common(1)[0]
        has = f"has {package} {there}" if there else f"has no {package}"
        others = f" ({sum(wrong.values())} such differences in all)" if len(places) > 1 else ""
        raise BadInput(
            f"{example} {has}, this client {here[package]}{others}. Install the same everywhere "
            f'(pip install "openimager[cluster,s3]=={__version__}", Python '
            f"{_begins(here['python'], 2)}) and restart scheduler and workers."
        )


def _begins(version: str | None, numbers: int) -> str:
    return ".".join((version or "").split(".")[:numbers])


def _check_visible(executor: Executor, store: Store, folders: list[str]) -> None:
    token = f".openimager/seen-{secrets.token_hex(8)}"
    store.write(store.path(token), b"client")
    try:
        answers = executor._client.run(
            _sees, store, token, folders, workers=_workers(executor), on_error="return"
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


def warn_if_empty(executor: Executor) -> None:
    """Warn if a Dask cluster has no workers at the moment; Dask itself waits in silence."""
    if is_dask(executor) and not executor._client.nthreads():
        warnings.warn(
            "The cluster has lost all its workers. Waiting for others; Ctrl-C ends the run.",
            stacklevel=2,
        )


def submit(executor: Executor, task: Callable, partition) -> Future:
    """Submit a task; to Dask as compressed bytes.

    Dask's scheduler and client keep the last thousand messages to each other and to each worker.
    """
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
    again = "What is whole is kept; run again for the rest."
    try:
        yield
    except BrokenExecutor:
        raise TryAgain(
            "A process died: it was killed, perhaps for its memory, or the script that started it "
            f'lacks `if __name__ == "__main__":` around its work. {again}'
        ) from None
    except CancelledError:
        raise TryAgain(f"The connection to the scheduler was lost. {again}") from None
    except Exception as error:
        if type(error).__name__ != "KilledWorker":
            raise
        raise TryAgain(
            f"Several workers died one after another on the same partition, perhaps for their "
            f"memory: give them more, or fewer threads each. {again}"
        ) from None


def _workers(executor: Executor) -> list[str] | None:
    """Return the workers that the executor is restricted to, None for all."""
    workers = executor._kwargs.get("workers")
    return [workers] if isinstance(workers, str) else workers
