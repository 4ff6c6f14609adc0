"""Who works on which shard: the driver's list, which gives every shard to one worker at a time."""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from usersim.plan import Shard


@dataclass(frozen=True, slots=True)
class Lease:
    """A shard given to a worker; the number ends every earlier lease of the shard."""

    shard: Shard
    number: int


class Leases:
    """Shards that wait, and shards that are out. For one event loop."""

    def __init__(self, shards: Sequence[Shard], last: Mapping[int, int], workers: int = 0) -> None:
        """`last` holds the last lease in each shard's journal, `workers` how many there are."""
        self._waiting = deque(shards)
        self._numbers = Counter(last)
        self._out: Counter[int] = Counter()
        self.workers = workers
        """How many workers there are whose engines are open: others may never come."""
        self._changed = asyncio.Event()
        self.over = asyncio.Event()
        """Set when nothing is given out any more: every shard is done, or `close` was called."""
        self._end_if_done()

    @property
    def waiting(self) -> int:
        """How many shards nobody has."""
        return len(self._waiting)

    async def take(self, worker: int) -> Lease | None:
        """A shard for the worker, as soon as there is one; None when it is over."""
        while not self.over.is_set():
            if len(self._waiting) > self._kept_for_others(worker):
                shard = self._waiting.popleft()
                self._numbers[shard.number] += 1
                self._out[worker] += 1
                return Lease(shard, self._numbers[shard.number])
            await self._changed.wait()
        return None

    def _kept_for_others(self, worker: int) -> int:
        """A second shard at once is for a worker only when there is one for each idle worker."""
        return self.workers - len(+self._out) if self._out[worker] else 0

    def done(self, worker: int) -> None:
        """One of the worker's shards is published."""
        self._out[worker] -= 1
        self._end_if_done()
        self._tell()

    def give_back(self, worker: int, lease: Lease) -> None:
        """The worker did not finish it: the next one to ask gets it."""
        self._out[worker] -= 1
        self._waiting.appendleft(lease.shard)
        self._tell()

    def join(self) -> None:
        """One worker more will ask."""
        self.workers += 1
        self._tell()

    def retire(self) -> None:
        """One worker less will ask."""
        self.workers -= 1
        self._tell()

    def close(self) -> None:
        """Give out nothing any more."""
        self.over.set()
        self._tell()

    def _end_if_done(self) -> None:
        if not self._waiting and not +self._out:
            self.over.set()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
