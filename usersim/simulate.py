"""Stage `simulate`: UserGPT and an assistant hold many conversations at once.

A turn is the unit of durability (the journal), a conversation the unit of publication, a shard the
unit of work. The same command again does only what is missing; a kill costs the turns in flight.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from usersim.books import Books
from usersim.conversation import Message, Role
from usersim.engine import Engine, Sampling
from usersim.engines import EngineSpec, determinism, model_name, open_engine, open_shared, shares
from usersim.error_rate import ErrorRate
from usersim.errors import (
    DeterministicError,
    EngineDead,
    EngineUseless,
    TransientError,
    WorldError,
)
from usersim.gauges import Snapshot, WorkerState, exposed
from usersim.journal import sole_owner
from usersim.orphans import marked, reap
from usersim.outcome import USAGE, Lineage, Spent
from usersim.plan import Agenda, SamplingSettings, SimulateSettings
from usersim.progress import Track, track
from usersim.stopping import Stopping
from usersim.talk import Drained, Simulator

__all__ = ["EngineSpec", "SamplingSettings", "SimulateSettings", "simulate", "simulate_async"]

log = logging.getLogger(__name__)

Engines = dict[Role, EngineSpec | Engine]
"""By role: specs are opened here, and again when they die; an opened engine is the caller's."""
DEATHS_IN_VAIN = 3  # sittings in a row that an engine's death ended before any conversation did
PROBES: dict[Role, tuple[Message, ...]] = {"user": (), "assistant": (Message("user", "Hello"),)}
"""What an engine is asked that shall be known to die of a conversation, not of anything."""
SAVE_S = 2.0  # how often the time spent is written down: a kill loses at most this much of it


def simulate(
    settings: SimulateSettings,
    user: EngineSpec | Engine,
    assistant: EngineSpec | Engine,
    run: Path,
    recipe_fingerprint: str,
    seed: int,
) -> dict[str, Any]:
    """Hold the conversations that the run folder still lacks; return the whole run's figures.

    Writes `run/conversations/part-*.parquet` (each whole or absent), `run/journal/` and
    `run/rejected/simulate.parquet`. Engines given as specs are opened only when there is work, and
    closed. SIGINT or SIGTERM lets the turns in flight finish and stops; a second stops at once.
    While engines open, either takes effect when they are open.

    Raises WorldError when stopped by a signal, a dead engine, too many errors or the disk; the same
    call resumes (where too many of all conversations failed: once they are put aside, or allowed).
    Raises InputError when the folder belongs to another recipe.
    """
    return asyncio.run(simulate_async(settings, user, assistant, run, recipe_fingerprint, seed))


async def simulate_async(
    settings: SimulateSettings,
    user: EngineSpec | Engine,
    assistant: EngineSpec | Engine,
    run: Path,
    recipe_fingerprint: str,
    seed: int,
) -> dict[str, Any]:
    """`simulate`, for a caller that has an event loop already."""
    agenda = Agenda.of(settings, recipe_fingerprint, seed, run)
    lineage = Lineage(settings, recipe_fingerprint, model_name(user), model_name(assistant))
    engines: Engines = {"user": user, "assistant": assistant}
    with sole_owner(run / "journal"):
        figures = await _to_the_end(partial(Books, agenda, lineage, run), engines)
    return figures | about_engines(engines, figures)


async def _to_the_end(open_books: Callable[[], Books], engines: Engines) -> dict[str, Any]:
    """Sit until every conversation has ended: after an engine's death again, as after a kill.

    After one in vain turns are first asked for one by one: whose turn an engine then dies of ends.

    Raises WorldError when `DEATHS_IN_VAIN` sittings brought nothing, or a caller's engine died.
    """
    stopping, in_vain = Stopping(), 0
    ours = all(isinstance(engine, EngineSpec) for engine in engines.values())
    while True:
        books = open_books()
        try:
            if books.publish_finished():
                begun = books.ended
                await _hold_missing(books, engines, stopping, careful=in_vain > 0)
            return books.close_run()
        except EngineUseless as error:
            raise WorldError(books.useless(error)) from error
        except EngineDead as error:
            in_vain = 0 if books.ended - books.blamed > begun else in_vain + 1
            if stopping.asked or not ours or in_vain == DEATHS_IN_VAIN:
                raise WorldError(books.unfinished(f"an engine died: {error}")) from error
            log.warning("an engine died (%s): engines are opened again, talks go on", error)
        finally:
            books.close()


def about_engines(engines: Engines, figures: dict[str, Any]) -> dict[str, Any]:
    """What can be promised of a second run, and what the tokens cost, where a price is known.

    `figures` hold prompt, cached and completion tokens by role, as `usage` and, of conversations
    that were put aside, as `usage_put_aside`; costs are by currency and role.
    """
    told: dict[str, Any] = {"determinism": {r: determinism(e) for r, e in engines.items()}}
    for paid_for, name in (("usage", "cost"), ("usage_put_aside", "cost_put_aside")):
        if paid_for in figures and (cost := _cost(engines, figures[paid_for])):
            told[name] = cost
    return told


def _cost(engines: Engines, usage: dict[str, dict[str, int]]) -> dict[str, dict[str, float]]:
    cost: dict[str, dict[str, float]] = {}
    for role, engine in engines.items():
        price = engine.price if isinstance(engine, EngineSpec) else None
        if price is not None:
            paid = price.of(**{key: usage[role].get(key, 0) for key in USAGE})
            cost.setdefault(price.currency, {})[role] = round(paid, 6)
    return {
        currency: by_role | {"total": round(sum(by_role.values()), 6)}
        for currency, by_role in cost.items()
    }


async def _hold_missing(
    books: Books, wanted: Engines, stopping: Stopping, *, careful: bool
) -> None:
    """Open the engines and hold every conversation that has not ended."""
    settings = books.agenda.settings
    nobody_yet, session = Snapshot(settings.conversations, books.ended), None
    async with AsyncExitStack() as stack:
        stack.enter_context(stopping.on_signals())
        # Before the engines: a port that cannot be had is told at once.
        stack.enter_context(exposed(lambda: session.snapshot() if session else nobody_yet))
        engines = await open_engines(stack, wanted)
        simulator = Simulator(settings, engines, books.openers, lambda: not stopping.asked)
        if careful:
            await go_carefully(simulator)
        with track("simulate", settings.conversations, "conversations", books.ended) as bar:
            session = Session(books, simulator, stopping, bar)
            await session.hold_all()


async def go_carefully(simulator: Simulator) -> None:
    """Ask for turns one by one, as many as are held at once: whose an engine dies of then ends.

    Raises EngineDead where an engine dies of anything: no conversation is to blame.
    """
    for role, engine in simulator.engines.items():
        with suppress(TransientError, DeterministicError):
            await engine.complete(PROBES[role], Sampling(max_tokens=1))
    simulator.alone = simulator.settings.concurrency


async def open_engines(stack: AsyncExitStack, wanted: Engines) -> dict[Role, Engine]:
    """The engines, opened side by side or as one; those opened here are closed with the stack."""
    reap()  # an engine whose owner was killed may hold the memory that these need
    with marked():
        return await _opened(stack, wanted)


async def _opened(stack: AsyncExitStack, wanted: Engines) -> dict[Role, Engine]:
    specs = {role: engine for role, engine in wanted.items() if isinstance(engine, EngineSpec)}
    if len(specs) == len(wanted) and shares(specs.values()):
        together = await asyncio.to_thread(open_shared, specs)
        for engine in together.values():
            stack.push_async_callback(engine.close)
        return dict(together)

    async def opened(engine: EngineSpec | Engine) -> Engine:
        if not isinstance(engine, EngineSpec):
            return engine
        made = await asyncio.to_thread(open_engine, engine)
        stack.push_async_callback(made.close)
        return made

    results = await asyncio.gather(*map(opened, wanted.values()), return_exceptions=True)
    engines: dict[Role, Engine] = {}
    for role, result in zip(wanted, results, strict=True):
        if isinstance(result, BaseException):
            raise result
        engines[role] = result
    return engines


class Session:
    """One sitting: `concurrency` workers take conversations from one list until it is empty."""

    def __init__(self, books: Books, simulator: Simulator, stopping: Stopping, bar: Track) -> None:
        self._books, self._simulator = books, simulator
        self._stopping, self._bar = stopping, bar
        self._talks = books.talks()
        self._rate = ErrorRate(books.agenda.settings)
        self._began = time.monotonic()

    async def hold_all(self) -> None:
        """Hold what is missing.

        Raises EngineDead, EngineUseless, or WorldError when stopped before the end.
        """
        before = self._books.spent
        workers = [
            asyncio.create_task(self._work())
            for _ in range(self._books.agenda.settings.concurrency)
        ]
        self._stopping.abort = lambda: [task.cancel() for task in workers]
        clock = asyncio.create_task(self._keep_time(before))
        try:
            await all_or_first_error(workers)
        finally:
            clock.cancel()
            self._save(before)
        if self._stopping.asked:
            raise WorldError(self._books.unfinished(f"stopped by {self._stopping.asked}"))

    async def _work(self) -> None:
        for shard, talk in self._talks:
            try:
                ending = await self._simulator.converse(talk)
            except Drained:
                return
            await self._books.end(shard, talk, ending)
            self._show()
            self._rate.take(ending)

    def _show(self) -> None:
        elapsed = max(time.monotonic() - self._began, 1e-9)
        pace = self._simulator.pace
        user, assistant = (pace.tokens[r] / elapsed for r in ("user", "assistant"))
        cached = pace.prompts["cached"] / max(pace.prompts["all"], 1)
        self._bar.note(
            f"{user:.0f} user + {assistant:.0f} assistant tokens/s, {cached:.0%} of prompts cached"
        )
        self._bar.advance()

    def snapshot(self) -> Snapshot:
        """Where the run stands."""
        pace, settings = self._simulator.pace, self._books.agenda.settings
        return Snapshot(
            planned=settings.conversations,
            ended=self._books.ended,
            failures=self._rate.errors,
            transient_retries=pace.transient_retries,
            seconds_left=self._bar.remaining_seconds,
            workers={"local": WorkerState(dict(pace.tokens), pace.in_flight)},
        )

    async def _keep_time(self, before: Spent) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            self._save(before)

    def _save(self, before: Spent) -> None:
        pace = self._simulator.pace
        pace.slots = occupancies(self._simulator.engines)
        self._books.save_spent(before, pace, self._began)


def occupancies(engines: dict[Role, Engine]) -> dict[str, float]:
    """Share of the slots that had a turn, by role, of the engines that have slots of their own."""
    found = {role: getattr(engine, "occupancy", None) for role, engine in engines.items()}
    return {role: round(share, 3) for role, share in found.items() if share is not None}


async def all_or_first_error(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for all tasks; on the first error cancel the others, wait for them too, and raise it."""
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)  # else asyncio tells of those not raised
    for task in done:
        with suppress(asyncio.CancelledError):
            task.result()
