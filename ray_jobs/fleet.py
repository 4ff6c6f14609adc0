"""The driver: light, it gives shards to workers, replaces those that are lost, and counts.

Nothing that matters lives here: turns are in the shards' journals, and a new driver reads there
what is missing.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ray_jobs.leases import Leases
from ray_jobs.meters import Meters
from ray_jobs.worker import Report, Simulation, Worker
from usersim.books import Books
from usersim.errors import EngineDead, EngineUseless, RealchatError, WorldError
from usersim.faults import fault_point
from usersim.gauges import Snapshot, WorkerState
from usersim.outcome import Spent
from usersim.plan import Shard
from usersim.progress import Track
from usersim.simulate import all_or_first_error
from usersim.stopping import Stopping
from usersim.talk import Pace

log = logging.getLogger(__name__)

REPORT_S = 1.0  # between questions to a worker
LINES_S = 30.0  # between lines about each worker in the job's log
GROW_S = 5.0  # between looks at a cluster that may have grown
CLOSE_S = 20.0  # for a worker to close its engines; then they are killed
LOSSES_IN_A_ROW = 3  # workers lost in one place, with nothing done in between, before it is left
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Placement:
    """How many workers, and what each asks of the cluster."""

    actors: int
    cpus: float = 1.0
    gpus: float = 0.0
    silent_s: float = 120.0
    """A worker that answers nothing for so long is given up; what it still writes is refused."""
    grows: bool = False
    """Whether there shall be a worker for every GPU that the cluster gains, and one that waits for
    the next: an autoscaler adds nodes for what waits, and for nothing else."""

    def room(self) -> int:
        """How many workers the cluster has GPUs for, those at work included."""
        import ray

        there = ray.cluster_resources().get("GPU", 0.0)
        return int(there / self.gpus) if self.gpus else 0


@dataclass(slots=True)
class Totals:
    """The last report of every worker there was, and what they add up to."""

    reports: dict[str, Report] = field(default_factory=dict)
    peak_in_flight: int = 0

    def take(self, name: str, report: Report) -> None:
        """A worker's newest report."""
        self.reports[name] = report
        in_flight = sum(r.in_flight for r in self.reports.values())
        self.peak_in_flight = max(self.peak_in_flight, in_flight)

    def gone(self, name: str) -> None:
        """A worker has nothing in flight any more, whatever it said last."""
        if report := self.reports.get(name):
            self.reports[name] = replace(report, in_flight=0)

    def pace(self) -> Pace:
        """All workers as one."""
        tokens: Counter[str] = Counter()
        for report in self.reports.values():
            tokens.update(report.tokens)
        retries = sum(r.transient_retries for r in self.reports.values())
        seconds = sum(r.seconds for r in self.reports.values())
        return Pace(0, self.peak_in_flight, retries, tokens, worker_seconds=seconds)

    def failed(self) -> int:
        """How many conversations ended in an error."""
        return sum(report.errors for report in self.reports.values())


class Lost(Exception):
    """No error: a worker is gone, its shards are for others; carries why.

    `of_engine`: because its engine died, and the next can find out whose turn engines die of.
    """

    def __init__(self, why: str, of_engine: bool = False) -> None:
        super().__init__(why)
        self.of_engine = of_engine


class Fleet:
    """One sitting of all workers."""

    def __init__(
        self, simulation: Simulation, placement: Placement, books: Books, bar: Track
    ) -> None:
        self._simulation, self._placement = simulation, placement
        self._books, self._bar = books, bar
        self._left = dict(books.left)
        self._totals = Totals()
        self._stopping = Stopping()
        self._lives: Counter[int] = Counter()
        self._lost_last = ""
        self._lost = 0
        self._ready: set[str] = set()
        self._logged: dict[str, tuple[float, dict[str, int]]] = {}  # when, and tokens until then
        self._places: list[asyncio.Task[None]] = []
        self._given_up = 0
        self._meters = Meters()
        self._began = self._look_again = time.monotonic()
        settings = simulation.settings
        # Enough conversations to fill a worker, and one shard more to draw from.
        self._shards_at_once = -(-settings.concurrency // settings.shard_size) + 1

    async def hold_all(self, shards: list[Shard]) -> None:
        """Hold what is missing. Raises WorldError when stopped before the end."""
        before = self._books.spent
        # A driver killed in its first second has sat all the same.
        self._books.save_spent(before, self._totals.pace(), self._began)
        self._leases = Leases(shards, self._books.leases)
        with self._stopping.on_signals():
            self._have_places(self._placement.actors)
            clock = asyncio.create_task(self._keep_time(before))
            self._stopping.abort = lambda: [task.cancel() for task in (*self._places, clock)]
            try:
                await all_or_first_error([clock])  # it raises what a place raises
                await all_or_first_error(self._places)
            except EngineUseless as error:  # of one worker, whose shards would be spoiled elsewhere
                raise WorldError(self._books.useless(error, self._ended)) from error
            finally:
                await _end([clock, *self._places])
                self._books.save_spent(before, self._totals.pace(), self._began)
        self._show()
        if self._stopping.asked and any(self._left.values()):
            raise WorldError(self._unfinished(f"stopped by {self._stopping.asked}"))

    def _have_places(self, wanted: int) -> None:
        """So many places for workers, or more."""
        for place in range(len(self._places), wanted):
            self._places.append(asyncio.create_task(self._keep(place)))

    def _watch_places(self) -> None:
        """Raise what ended a place; take up places that the cluster gained."""
        for place in self._places:
            if place.done() and not place.cancelled():
                place.result()
        now = time.monotonic()
        if self._placement.grows and now >= self._look_again:
            self._look_again = now + GROW_S
            before, room = len(self._places), self._placement.room()
            waits = self._placement.gpus > 0 and self._leases.waiting > 0
            self._have_places(room + waits)
            if len(self._places) > before:
                log.info("there is room for %d workers, %d are wanted", room, len(self._places))

    async def _keep(self, place: int) -> None:
        """One worker after the other in one place, until nothing is left to do."""
        losses, careful = 0, False
        while not self._leases.over.is_set() and losses < LOSSES_IN_A_ROW:
            self._lives[place] += 1
            name = f"worker-{place}.{self._lives[place]}"
            try:
                await self._serve(place, name, careful=careful)
            except Lost as error:
                losses = 0 if self._did_something(name) else losses + 1
                careful = error.of_engine and losses > 0
                self._lost += 1
                self._lost_last = f"{name}: {error}"
                log.warning("%s is lost (%s); its shards go to others", name, error)
        if self._leases.over.is_set():
            return
        self._given_up += 1
        if self._given_up == len(self._places):
            raise WorldError(
                self._unfinished(f"workers are lost as often as they start, {self._lost_last}")
            )

    def _did_something(self, name: str) -> bool:
        report = self._totals.reports.get(name)
        return report is not None and report.ended > report.blamed

    async def _serve(self, place: int, name: str, *, careful: bool) -> None:
        """A worker from its start to its end. Raises Lost when it ends before the work does."""
        import ray

        actor = _actor(self._placement, name, self._simulation, careful)
        try:
            opened = asyncio.create_task(_answer(actor.open.remote()))
            over = asyncio.create_task(self._leases.over.wait())
            await _first_of(opened, over)
            if not self._leases.over.is_set():
                log.info("%s is ready (process %d)", name, opened.result())
                await self._at_work(place, name, actor)
                with suppress(Lost, TimeoutError):
                    await asyncio.wait_for(_answer(actor.close.remote()), CLOSE_S)
        finally:
            ray.kill(actor)

    async def _at_work(self, place: int, name: str, actor: Any) -> None:
        self._ready.add(name)
        self._logged[name] = time.monotonic(), {}
        self._leases.join()
        try:
            await self._feed_and_watch(place, name, actor)
        finally:
            self._ready.discard(name)
            self._totals.gone(name)
            self._leases.retire()

    async def _feed_and_watch(self, place: int, name: str, actor: Any) -> None:
        watch = asyncio.create_task(self._watch(name, actor))
        feeding = [self._feed(place, actor) for _ in range(self._shards_at_once)]
        await _first_of(asyncio.create_task(_all(feeding)), watch)
        self._take(name, await _answer(actor.report.remote()))

    async def _feed(self, place: int, actor: Any) -> None:
        """Give the worker one shard after the other."""
        while lease := await self._leases.take(place):
            whole = False
            try:
                whole = await _answer(actor.hold.remote(lease))
            finally:
                if whole:
                    fault_point("ray.shard_done")
                    self._left[lease.shard.number] = 0
                    self._leases.done(place)
                else:
                    self._leases.give_back(place, lease)

    async def _watch(self, name: str, actor: Any) -> None:
        """Ask for reports until cancelled. Raises Lost when the worker falls silent."""
        while True:
            try:
                report = _answer(actor.report.remote())
                self._take(name, await asyncio.wait_for(report, self._placement.silent_s))
            except TimeoutError as error:
                raise Lost(f"silent for {self._placement.silent_s:.0f} s") from error
            if self._stopping.asked:
                self._leases.close()
                await _answer(actor.drain.remote())
            await asyncio.sleep(REPORT_S)

    def _take(self, name: str, report: Report) -> None:
        self._totals.take(name, report)
        for number, left in report.left.items():  # what a worker given up says may be older
            self._left[number] = min(left, self._left[number])

    async def _keep_time(self, before: Spent) -> None:
        line_due = time.monotonic() + LINES_S
        while not self._leases.over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leases.over.wait(), REPORT_S)
            self._books.save_spent(before, self._totals.pace(), self._began)
            self._show()
            self._watch_places()
            if self._stopping.asked:
                self._leases.close()
            if time.monotonic() >= line_due:
                line_due += LINES_S
                self._log_workers()

    def _show(self) -> None:
        elapsed = max(time.monotonic() - self._began, 1e-9)
        pace = self._totals.pace()
        user, assistant = (pace.tokens[role] / elapsed for role in ("user", "assistant"))
        self._bar.note(f"{user:.0f} user + {assistant:.0f} assistant tokens/s")
        self._bar.advance(self._ended - self._bar.done)
        self._meters.show(self._snapshot())

    def _snapshot(self) -> Snapshot:
        reports = self._totals.reports
        states = {n: WorkerState(r.tokens, r.in_flight) for n, r in reports.items()}
        return Snapshot(
            planned=self._simulation.settings.conversations,
            ended=self._ended,
            failures=self._totals.failed(),
            transient_retries=self._totals.pace().transient_retries,
            seconds_left=self._bar.remaining_seconds,
            lost=self._lost,
            workers={name: states.get(name, WorkerState({}, 0)) for name in self._ready},
            gone={name: state for name, state in states.items() if name not in self._ready},
        )

    @property
    def _ended(self) -> int:
        return self._simulation.settings.conversations - sum(self._left.values())

    def _log_workers(self) -> None:
        if not self._totals.reports:
            asked = f"{self._placement.cpus:g} CPU and {self._placement.gpus:g} GPU"
            log.warning(
                "no worker has started yet; each asks for %s of the cluster (--gpus-per-actor)",
                asked,
            )
        now = time.monotonic()
        for name in sorted(self._ready & self._totals.reports.keys()):
            report = self._totals.reports[name]
            since, before = self._logged[name]
            self._logged[name] = now, report.tokens
            user, assistant = (
                (report.tokens.get(role, 0) - before.get(role, 0)) / max(now - since, 1e-9)
                for role in ("user", "assistant")
            )
            log.info(
                "%s (process %d): %.0f user + %.0f assistant tokens/s, %d conversations ended,"
                " %d of them in an error",
                name,
                report.process,
                user,
                assistant,
                report.ended,
                report.errors,
            )

    def _unfinished(self, why: str) -> str:
        return self._books.unfinished(why, self._ended)


def _actor(placement: Placement, name: str, simulation: Simulation, careful: bool) -> Any:
    """A worker somewhere on the cluster; Ray starts it when there is room."""
    import ray

    # Replacing is the driver's affair: a worker that Ray restarts would not know its leases.
    wanted = ray.remote(Worker).options(
        num_cpus=placement.cpus,
        num_gpus=placement.gpus,
        max_restarts=0,
        max_task_retries=0,
        scheduling_strategy="SPREAD",
    )
    return wanted.remote(name, simulation, careful)


async def _answer(reference: Awaitable[Answer]) -> Answer:
    """What an actor's method returns. Raises Lost when the actor, its engine or its disk is gone.

    The caller's mistakes and bugs are raised as what they were over there.
    """
    from ray.exceptions import RayError, RayTaskError

    try:
        return await reference
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, WorldError | EngineDead):
            raise Lost(str(cause), of_engine=isinstance(cause, EngineDead)) from error
        if isinstance(cause, RealchatError):
            raise cause from error
        raise
    except RayError as error:
        raise Lost(_in_short(error)) from error


def _in_short(error: Exception) -> str:
    """What Ray says of a dead actor in pages: the last line is the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:160] if lines else 'no reason given'}"


async def _end(tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _all(work: list[Any]) -> None:
    await all_or_first_error([asyncio.create_task(each) for each in work])


async def _first_of(*tasks: "asyncio.Task[Any]") -> None:
    """Wait for one of the tasks, cancel the others, and raise what that one raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
