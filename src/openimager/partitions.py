"""Partitions of work on any executor: this process, several processes, or a cluster."""

import concurrent.futures
import math
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
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

    Parameters
    ----------
    task : callable
        Takes a partition. Picklable unless everything runs in this process.
    partitions : iterable
        Read only as fast as they are run.
    processes : int
        Processes to start where no `executor` is given; 1 runs the task in this process.
    executor : concurrent.futures.Executor, optional
        Runs the task in place of processes of our own; it is not shut down.
    in_flight : int, optional
        Partitions submitted at once. By default `processes`, or with an `executor` twice as many
        as it runs at once, so that no worker waits while a result travels.

    Yields
    ------
    (partition, result)

    Raises
    ------
    Exception
        What the task raises. Partitions that have not begun are cancelled, also on Ctrl-C.
    TryAgain
        If processes, workers or the scheduler died and no other worker could take over.

    Examples
    --------
    >>> [result for _, result in run(len, ["a", "bc"])]
    [1, 2]
    """
    if executor is None and processes == 1:
        for partition in partitions:
            yield partition, task(partition)
        return
    if executor is not None:
        yield from _submitted(task, partitions, executor, in_flight or 2 * cluster.slots(executor))
        return
    # "spawn", because a fork copies the locks of threads that it does not copy.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _ignore_interrupts)
    try:
        yield from _submitted(task, partitions, pool, in_flight or processes)
    except BaseException:
        # Nobody waits for partitions in flight; a task leaves no file half written.
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def sizes(count: int, slots: int, most: int = 256, least: int = 32) -> Iterator[int]:
    """Yield the sizes of partitions: equal at first, smaller towards the end.

    A slot that takes one of the last partitions keeps the others waiting for at most the time of
    `least` rows. `most` rows take seconds, against some 20 ms that a scheduler needs for a
    partition.

    Parameters
    ----------
    count : int
        Rows in all.
    slots : int
        Partitions that run at once.
    most, least : int
        Bounds of the size.

    Examples
    --------
    >>> list(sizes(1000, slots=1))
    [250, 188, 141, 106, 79, 59, 45, 33, 32, 32, 32, 3]
    >>> sum(sizes(100_000, slots=7))
    100000
    """
    while count > 0:
        size = min(count, most, max(least, math.ceil(count / (4 * slots))))
        yield size
        count -= size


def _submitted(task, partitions, executor: Executor, in_flight: int):
    waiting = iter(partitions)
    running: dict[concurrent.futures.Future, object] = {}
    try:
        while True:
            while len(running) < in_flight:
                try:
                    partition = next(waiting)
                except StopIteration:
                    break
                with cluster.explained():
                    running[cluster.submit(executor, task, partition)] = partition
            if not running:
                return
            for future in _first_done(running, executor):
                with cluster.explained():
                    result = future.result()
                yield running.pop(future), result
    finally:
        for future in running:
            future.cancel()


def _first_done(running, executor: Executor) -> set[concurrent.futures.Future]:
    while True:
        done, _ = concurrent.futures.wait(
            running, timeout=_PATIENCE, return_when=concurrent.futures.FIRST_COMPLETED
        )
        if done:
            return done
        cluster.warn_if_empty(executor)
