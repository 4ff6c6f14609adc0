"""The worker: a Ray actor with a pair of engines of its own, which holds the shards given to it."""

import asyncio
import os
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ray_jobs.cluster import look_for
from ray_jobs.leases import Lease
from ray_jobs.store import Store
from usersim.books import Books
from usersim.engine import Engine
from usersim.engines import EngineSpec, model_name
from usersim.error_rate import ErrorRate
from usersim.errors import EngineDead
from usersim.outcome import Lineage
from usersim.plan import Agenda, Shard, SimulateSettings
from usersim.simulate import Engines, all_or_first_error, go_carefully, open_engines
from usersim.talk import Drained, Simulator, Talk


@dataclass(frozen=True, slots=True)
class Simulation:
    """What `usersim.simulate.simulate` is given, in its order; travels to every worker."""

    settings: SimulateSettings
    user: EngineSpec | Engine
    assistant: EngineSpec | Engine
    run: Path
    recipe: str
    seed: int
    store: str = ""
    """URI to which finished shards are copied; empty: nowhere."""
    sign: str = ""
    """A file that the driver left beside the journals, for workers to see; empty: none to see."""

    def books(self) -> Books:
        """Books on the run folder, which the driver and every worker see."""
        models = model_name(self.user), model_name(self.assistant)
        lineage = Lineage(self.settings, self.recipe, *models)
        return Books(
            Agenda.of(self.settings, self.recipe, self.seed, self.run),
            lineage,
            self.run,
            shared=True,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker has done since it began."""

    process: int = 0
    seconds: float = 0.0
    """Since its engines are open."""
    left: dict[int, int] = field(default_factory=dict)
    """Conversations still to hold, by the number of a shard that it took up."""
    tokens: dict[str, int] = field(default_factory=dict)
    ended: int = 0
    blamed: int = 0
    """Of these, those that an engine died of."""
    errors: int = 0
    in_flight: int = 0
    transient_retries: int = 0


class Worker:
    """Holds leased shards, all of them at once: one shard's last talks leave no slot empty."""

    def __init__(self, name: str, simulation: Simulation, careful: bool = False) -> None:
        """`careful`: to find out whose turn an engine dies of, as one has in vain."""
        self._name, self._simulation, self._careful = name, simulation, careful
        self._books: Books  # when it is known that this node sees the folder
        self._slots = asyncio.Semaphore(simulation.settings.concurrency)  # served in order
        self._stack = AsyncExitStack()
        self._simulator: Simulator | None = None
        self._draining = False
        self._ended, self._rate = 0, ErrorRate(simulation.settings)

    async def open(self) -> int:
        """Open the engines; returns the number of this process.

        Raises what they raise, and WorldError where this node does not see the run folder.
        """
        if self._simulation.sign:
            look_for(self._simulation.run / "journal" / self._simulation.sign)
        self._books = self._simulation.books()
        wanted: Engines = {
            "user": self._with_log(self._simulation.user),
            "assistant": self._with_log(self._simulation.assistant),
        }
        engines = await open_engines(self._stack, wanted)
        settings, openers = self._simulation.settings, self._books.openers
        self._simulator = Simulator(settings, engines, openers, lambda: not self._draining)
        if self._careful:
            await go_carefully(self._simulator)
        self._opened = time.monotonic()
        return os.getpid()

    def _with_log(self, engine: EngineSpec | Engine) -> EngineSpec | Engine:
        if isinstance(engine, EngineSpec) and engine.log_dir:
            return engine.model_copy(update={"log_dir": engine.log_dir / self._name})
        return engine

    async def hold(self, lease: Lease) -> bool:
        """Hold what the shard lacks and publish it; False when drained before that.

        Raises Fenced when the shard went to another worker, EngineDead, EngineUseless, WorldError.
        """
        shard = lease.shard
        talks = self._books.take_up(shard, lease.number)
        try:
            if talks:
                tasks = [asyncio.create_task(self._converse(shard, talk)) for talk in talks]
                await all_or_first_error(tasks)
        except EngineDead:
            self._books.flush()  # who is to blame stands there before the driver ends this process
            raise
        finally:
            self._books.close_journal(shard)
        whole = self._books.left[shard.number] == 0
        if whole and self._simulation.store:
            data = shard.data(self._simulation.run)
            await asyncio.to_thread(self._copy, data)
        return whole

    def _copy(self, data: Path) -> None:
        Store(self._simulation.store).put(data, f"{data.parent.name}/{data.name}")

    async def _converse(self, shard: Shard, talk: Talk) -> None:
        assert self._simulator is not None, "open comes first"
        async with self._slots:
            try:
                ending = await self._simulator.converse(talk)
            except Drained:
                return
            await self._books.end(shard, talk, ending)
        self._ended += 1
        self._rate.take(ending)

    async def report(self) -> Report:
        """What was done so far; answered at once, however busy the engines are."""
        pace = self._simulator.pace if self._simulator else None
        return Report(
            process=os.getpid(),
            seconds=time.monotonic() - self._opened if pace else 0.0,
            left=dict(self._books.left),
            tokens={**pace.tokens} if pace else {},
            ended=self._ended,
            blamed=self._books.blamed,
            errors=self._rate.errors,
            in_flight=pace.in_flight if pace else 0,
            transient_retries=pace.transient_retries if pace else 0,
        )

    async def drain(self) -> None:
        """Begin no turn any more."""
        self._draining = True

    async def close(self) -> None:
        """Give back what the engines hold."""
        await self._stack.aclose()
        self._books.close()
