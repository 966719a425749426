"""Partitions of work on any executor: this process, several processes, or a cluster."""

import contextlib
import math
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from openimager import cluster

Partition = TypeVar("Partition")
Result = TypeVar("Result")

_PATIENCE = 30.0  # seconds without a result, after which a cluster is asked for its workers


def run(
    task: Callable[[Partition], Result],
    partitions: Iterable[Partition],
    processes: int = 1,
    executor: Executor | None = None,
    in_flight: int | None = None,
) -> Iterator[tuple[Partition, Result]]:
    """Run a task on every partition; yield each partition and its result as it completes.

    It runs in this process, in several, or on an `executor`, which is not shut down. Partitions are
    read only as fast as they are run; `in_flight` are submitted at once, by default as many as
    there are processes, or twice as many as an executor runs, so that no worker waits while a
    result travels. After an exception those that have not begun are cancelled.

    Examples
    --------
    >>> [result for _, result in run(len, ["a", "bc"])]
    [1, 2]
    """
    if executor is None and processes == 1:
        yield from ((partition, task(partition)) for partition in partitions)
        return
    if executor is None:
        with _pool(processes) as executor:
            yield from run(task, partitions, executor=executor, in_flight=in_flight or processes)
        return
    in_flight = in_flight or 2 * cluster.slots(executor)
    waiting, running = iter(partitions), {}
    try:
        while True:
            for partition in islice(waiting, in_flight - len(running)):
                with cluster.explained():
                    running[cluster.submit(executor, task, partition)] = partition
            if not running:
                return
            done, _ = wait(running, _PATIENCE, FIRST_COMPLETED)
            if not done:
                cluster.warn_if_empty(executor)
            for future in done:
                with cluster.explained():
                    result = future.result()
                yield running.pop(future), result
    finally:
        for future in running:
            future.cancel()


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[Executor]:
    # "spawn", because a fork copies the locks of threads that it does not copy. A terminal sends
    # Ctrl-C to all processes; only the parent is to act on it.
    pool = ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield pool
    except BaseException:
        # Nobody waits for partitions in flight; a task leaves no file half written.
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def sizes(count: int, slots: int, most: int = 256, least: int = 32) -> Iterator[int]:
    """Yield the sizes of partitions of `count` rows, for `slots` that run at once.

    Equal at first and smaller towards the end: a slot that takes one of the last ones keeps the
    others waiting for at most the time of `least` rows. `most` rows take seconds, against some
    20 ms that a scheduler needs for a partition.

    Examples
    --------
    >>> list(sizes(1000, slots=1))
    [250, 188, 141, 106, 79, 59, 45, 33, 32, 32, 32, 3]
    """
    while count > 0:
        size = min(count, most, max(least, math.ceil(count / (4 * slots))))
        yield size
        count -= size
