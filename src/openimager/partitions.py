"""Partitions of work on any executor: this process, several processes, or a cluster."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import TypeVar

Partition = TypeVar("Partition")
Result = TypeVar("Result")


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
        Partitions submitted at once; `processes` by default.

    Yields
    ------
    (partition, result)

    Raises
    ------
    Exception
        What the task raises. Partitions that have not begun are cancelled, also on Ctrl-C.

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
        yield from _submitted(task, partitions, executor, in_flight or max(processes, 1))
        return
    # "spawn", because a fork copies the locks of threads that it does not copy.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context)
    try:
        yield from _submitted(task, partitions, pool, in_flight or processes)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


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
                running[executor.submit(task, partition)] = partition
            if not running:
                return
            done, _ = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                yield running.pop(future), future.result()
    finally:
        for future in running:
            future.cancel()
