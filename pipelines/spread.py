"""Where pieces of work are done: one after another here, or on all cores of this machine."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Protocol, Self, TypeVar

from usersim.errors import WorldError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Spread(Protocol):
    """Does `work` on every task and yields the results in the tasks' order."""

    def __call__(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """The results, in the tasks' order."""
        ...


def in_turn(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    """One after another, in this process."""
    return map(work, tasks)


class Processes:
    """On several processes, each of which does one task at a time; they start with the first task.

    Raises WorldError when one of them is killed; `work` that finds its results on disk and leaves
    them loses nothing then. To be closed: `with Processes(2) as spread`.
    """

    def __init__(self, number: int) -> None:
        # Spawned: a fork of a process that has threads (Arrow, fastText) may hang.
        self._pool = ProcessPoolExecutor(number, mp_context=get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """The results, in the tasks' order."""
        try:
            yield from self._pool.map(work, tasks)
        except BrokenProcessPool as error:
            raise WorldError(
                "a worker process was killed (out of memory?): the same command goes on"
            ) from error


@contextmanager
def here(num_tasks: int, num_rows: int) -> Iterator[Spread]:
    """All cores when there is enough to do, else this process: a process takes seconds to start."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    number = min(cores or 1, num_tasks)
    if number < 2 or num_rows < ROWS_FOR_PROCESSES:
        yield in_turn
        return
    with Processes(number) as spread:
        yield spread


ROWS_FOR_PROCESSES = 20_000
