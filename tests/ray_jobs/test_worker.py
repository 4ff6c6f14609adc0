"""A worker in this process: no Ray, the same class."""

import asyncio

import pytest

from ray_jobs.leases import Lease
from ray_jobs.worker import Simulation, Worker
from usersim.engines.scripted import HeldEngine, ScriptedEngine, dying, refusing, talkative
from usersim.errors import EngineDead, EngineUseless, WorldError
from usersim.files import read_conversations
from usersim.journal import Fenced
from usersim.simulate import SimulateSettings, simulate

SETTINGS = SimulateSettings(conversations=20, shard_size=8, concurrency=5)


def simulation(run, user=None):
    return Simulation(SETTINGS, user or talkative(2, "u"), talkative(model="a"), run, "recipe", 7)


def published(run):
    return [c for p in sorted((run / "conversations").glob("*")) for c in read_conversations(p)]


@pytest.fixture
def alone(tmp_path):
    """What one machine makes of the same plan."""
    here = simulation(tmp_path / "alone")
    simulate(here.settings, here.user, here.assistant, here.run, here.recipe, here.seed)
    return published(tmp_path / "alone")


def leases(work):
    return [Lease(shard, 1) for shard in work.books().agenda.shards()]


def test_shards_held_side_by_side_are_those_of_one_machine(tmp_path, alone):
    async def hold():
        work = simulation(tmp_path / "run")
        worker = Worker("w", work)
        await worker.open()
        whole = await asyncio.gather(*map(worker.hold, leases(work)))
        report = await worker.report()
        await worker.close()
        return whole, report

    whole, report = asyncio.run(hold())
    assert whole == [True] * 3
    assert published(tmp_path / "run") == alone
    assert report.ended == 20
    assert report.seconds > 0
    assert set(report.left.values()) == {0}


def test_a_worker_given_up_that_writes_on_changes_nothing(tmp_path, alone):
    async def hold():
        released = asyncio.Event()
        given_up = Worker(
            "a", simulation(tmp_path / "run", HeldEngine(talkative(2, "u"), released))
        )
        work = simulation(tmp_path / "run")
        heir = Worker("b", work)
        await given_up.open()
        await heir.open()
        shard = leases(work)[0].shard
        late = asyncio.create_task(given_up.hold(Lease(shard, 1)))
        await asyncio.sleep(0)
        assert await heir.hold(Lease(shard, 2))
        before = (tmp_path / "run" / "conversations" / "part-00000.parquet").read_bytes()
        released.set()  # and now it wakes up
        with pytest.raises(Fenced):
            await late
        with pytest.raises(Fenced):
            await given_up.hold(Lease(shard, 1))
        return before

    before = asyncio.run(hold())
    assert (tmp_path / "run" / "conversations" / "part-00000.parquet").read_bytes() == before
    assert published(tmp_path / "run") == alone[:8]


def test_a_node_that_does_not_see_the_folder_says_so_whatever_else_is_missing(tmp_path):
    people = SETTINGS.model_copy(update={"given": ("intent",)})  # which stand in the run folder
    engines = talkative(2, "u"), talkative(model="a")
    work = Simulation(people, *engines, tmp_path / "elsewhere", "recipe", 7, sign="driver-1")
    with pytest.raises(WorldError, match=r"does not see the driver's .*elsewhere"):
        asyncio.run(Worker("w", work).open())


def poisoned(seed):
    """Answers until it is asked for the turn with this seed, then no more."""
    talks, dead = talkative(2, "u"), []

    def script(messages, sampling):
        if dead or sampling.seed == seed:
            dead.append(seed)
            raise EngineDead("scripted: dead")
        return talks._script(messages, sampling)

    return ScriptedEngine(script, "u")


@pytest.mark.parametrize("careful", [False, True])
def test_only_a_careful_worker_knows_whom_its_engine_died_of(tmp_path, careful):
    plan = simulation(tmp_path).books().agenda.plan(3)
    user = poisoned(plan.turn_seed(0, 0))

    async def hold():
        work = simulation(tmp_path, user)
        worker = Worker("w", work, careful)
        await worker.open()
        with pytest.raises(EngineDead):
            await asyncio.gather(*map(worker.hold, leases(work)))
        return await worker.report()

    report = asyncio.run(hold())
    assert report.blamed == careful
    work = simulation(tmp_path)
    journals = [work.books().journal(shard) for shard in work.books().agenda.shards()]
    reasons = {index: e.reason for j in journals for index, e in j.endings().items() if e.reason}
    assert reasons == ({3: "engine_died"} if careful else {})


def test_where_an_engine_dies_of_anything_nobody_is_to_blame(tmp_path):
    engine = dying(talkative(model="a"), after=0)

    async def hold():
        worker = Worker("w", Simulation(SETTINGS, talkative(2), engine, tmp_path, "r", 7), True)
        with pytest.raises(EngineDead):
            await worker.open()

    asyncio.run(hold())


def test_an_engine_that_is_of_no_use_is_told_as_such(tmp_path):
    """As a WorldError it would be a lost worker, whose shards others spoil."""

    async def hold():
        work = Simulation(SETTINGS, talkative(2, "u"), refusing(talkative()), tmp_path, "recipe", 7)
        worker = Worker("w", work)
        await worker.open()
        with pytest.raises(EngineUseless, match=r"20 of the last 20 .* scripted: refused"):
            await asyncio.gather(*map(worker.hold, leases(work)))
        return await worker.report()

    assert asyncio.run(hold()).errors == 20


def test_one_machine_goes_on_with_what_workers_began(tmp_path, alone):
    async def hold():
        work = simulation(tmp_path / "run")
        worker = Worker("w", work)
        await worker.open()
        await worker.hold(leases(work)[1])

    asyncio.run(hold())
    here = simulation(tmp_path / "run")
    simulate(here.settings, here.user, here.assistant, here.run, here.recipe, here.seed)
    assert published(tmp_path / "run") == alone


def test_drained_it_leaves_the_shard_resumable(tmp_path, alone):
    async def hold():
        released = asyncio.Event()
        work = simulation(tmp_path / "run", HeldEngine(talkative(2, "u"), released))
        worker = Worker("w", work)
        await worker.open()
        first = leases(work)[0]
        holding = asyncio.create_task(worker.hold(first))
        await asyncio.sleep(0)
        await worker.drain()
        released.set()
        assert not await holding
        again = Worker("w", work)
        await again.open()
        assert await again.hold(Lease(first.shard, 2))

    asyncio.run(hold())
    assert published(tmp_path / "run") == alone[:8]
