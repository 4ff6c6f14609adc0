"""The driver's list: every shard is with one worker at a time, and none is forgotten."""

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.leases import Leases
from usersim.plan import Shard


def shards(n):
    return [Shard(number, number * 4, 4) for number in range(n)]


@given(st.integers(0, 12), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**31))
def test_every_shard_is_done_once_however_often_workers_fail(num, workers, at_once, seed):
    luck, out, done = random.Random(seed), {}, []

    async def feed(leases, worker):
        while lease := await leases.take(worker):
            assert lease.shard.number not in out  # nobody else has it
            out[lease.shard.number] = lease.number
            for _ in range(luck.randrange(4)):
                await asyncio.sleep(0)
            del out[lease.shard.number]
            if luck.random() < 0.3:
                leases.give_back(worker, lease)
            else:
                done.append(lease.shard.number)
                leases.done(worker)

    async def all_feeds():
        leases = Leases(shards(num), {}, workers)
        await asyncio.gather(*(feed(leases, w) for w in range(workers) for _ in range(at_once)))
        assert leases.over.is_set()

    asyncio.run(all_feeds())
    assert sorted(done) == list(range(num))


def test_numbers_count_up_from_what_the_journals_know():
    async def numbers():
        leases = Leases(shards(1), {0: 6}, 1)
        first = await leases.take(0)
        leases.give_back(0, first)
        second = await leases.take(0)
        return first.number, second.number

    assert asyncio.run(numbers()) == (7, 8)


def test_a_second_shard_waits_until_every_worker_has_one():
    async def scene():
        leases = Leases(shards(2), {}, 2)
        await leases.take(0)
        second = asyncio.create_task(leases.take(0))
        await asyncio.sleep(0)
        assert not second.done()
        others = await leases.take(1)
        leases.give_back(1, others)
        leases.retire()  # and now there is one worker only
        assert (await second).shard == others.shard

    asyncio.run(scene())


def test_when_closed_nobody_waits():
    async def scene():
        leases = Leases(shards(1), {}, 1)
        lease = await leases.take(0)
        waiting = asyncio.create_task(leases.take(0))
        await asyncio.sleep(0)
        leases.close()
        assert await waiting is None
        leases.give_back(0, lease)
        assert await leases.take(0) is None

    asyncio.run(scene())
