"""A small model of a simulation: conversations, slots and engines, by discrete events, no clock.

A conversation is a list of completions, each a number of tokens that one of the two roles writes
after a number of new prompt tokens. An engine decodes one token of all its running sequences at
once; such a step takes longer the more there are, and prompts are read in between. Engines that
share a device share its time. What is left out: the batch's context length, pauses of the program
around the engines, and anything that the engines do not do in turn.
"""

import heapq
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from usersim.conversation import Role


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast one engine is when it has its device to itself."""

    steps: tuple[tuple[int, float], ...]
    """(sequences, seconds of one decoding step of all of them), in order; straight in between."""
    prefill_s: float
    """Seconds a prompt token that no cache held."""
    shared: bool = True
    """Whether it takes time of this machine's device; an endpoint does not."""

    def step_s(self, sequences: int) -> float:
        """Seconds of one decoding step; beyond the table the last slope goes on."""
        points = self.steps
        if len(points) == 1:
            return points[0][1]
        place = bisect_left(points, (sequences, 0.0))
        place = min(max(place, 1), len(points) - 1)
        (n0, t0), (n1, t1) = points[place - 1], points[place]
        return max(t0 + (t1 - t0) * (sequences - n0) / (n1 - n0), min(points[0][1], t0))

    def scaled(self, factor: float) -> "Speed":
        """The same, taking `factor` times as long."""
        steps = tuple((n, t * factor) for n, t in self.steps)
        return Speed(steps, self.prefill_s * factor, self.shared)


@dataclass(frozen=True, slots=True)
class Said:
    """One completion: who writes it, how many tokens, after how many new prompt tokens."""

    role: Role
    tokens: int
    prompt: float
    refused: bool = False
    """Whether the guards refuse it, so that another one follows."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What one process or actor has: engines of both roles, a device, slots for conversations."""

    engines: dict[Role, tuple[Speed, int, int]]
    """Speed, replicas, and sequences at once of each role's engines."""
    concurrency: int
    """Conversations in flight."""
    capacity: float = 1.0
    """How many engines the device can run at full speed at once."""


@dataclass(slots=True)
class Timeline:
    """What came of it."""

    seconds: float = 0.0
    ended_at: list[float] = field(default_factory=list)
    """When each conversation ended, in order of ending."""
    in_flight: float = 0.0
    """Mean number of completions in flight until nine of ten conversations had ended."""
    busy: dict[str, float] = field(default_factory=dict)
    """Engine-seconds of work by role, at full speed."""

    @property
    def per_s(self) -> float:
        """Conversations a second between the first tenth of them and the last fifth."""
        ended = self.ended_at
        first, last = len(ended) // 10, max(len(ended) * 4 // 5, len(ended) // 10 + 1) - 1
        if last <= first or ended[last] <= ended[first]:
            return len(ended) / max(self.seconds, 1e-9)
        return (last - first) / (ended[last] - ended[first])


class _Engine:
    def __init__(self, role: Role, speed: Speed, slots: int) -> None:
        self.role, self.speed, self.slots = role, speed, slots
        self.running: list[tuple[float, int]] = []
        self.waiting: deque[tuple[int, Said]] = deque()
        self.work = 0.0
        self._steps = 0.0
        self._prefill = 0.0

    def ask(self, talk: int, said: Said) -> None:
        self.waiting.append((talk, said))
        self._admit()

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.slots:
            talk, said = self.waiting.popleft()
            self._prefill += said.prompt * self.speed.prefill_s
            heapq.heappush(self.running, (self._steps + said.tokens, talk))

    def seconds_to_next(self) -> float:
        """Until a completion is done, at full speed."""
        steps = self.running[0][0] - self._steps
        return self._prefill + steps * self.speed.step_s(len(self.running))

    def advance(self, seconds: float) -> None:
        self.work += seconds
        prefill = min(self._prefill, seconds)
        self._prefill -= prefill
        self._steps += (seconds - prefill) / self.speed.step_s(len(self.running))

    def finish(self) -> int:
        """The conversation whose completion is done."""
        steps, talk = heapq.heappop(self.running)
        self._steps = max(self._steps, steps)
        self._admit()
        return talk


def hold(talks: Sequence[Sequence[Said]], worker: Worker) -> Timeline:
    """Hold the conversations on one worker, in their order, as the scheduler does."""
    engines = {
        role: [_Engine(role, speed, slots) for _ in range(replicas)]
        for role, (speed, replicas, slots) in worker.engines.items()
    }
    everyone = [engine for many in engines.values() for engine in many]
    line, told, area, clock = Timeline(), [0] * len(talks), 0.0, 0.0
    most = math.ceil(0.9 * len(talks))

    def go_on(talk: int) -> bool:
        if told[talk] == len(talks[talk]):
            return False
        said = talks[talk][told[talk]]
        told[talk] += 1
        mine = engines[said.role]
        mine[talk % len(mine)].ask(talk, said)
        return True

    begun = min(worker.concurrency, len(talks))
    for talk in range(begun):
        go_on(talk)
    while active := [engine for engine in everyone if engine.running]:
        shares = _shares(active, worker.capacity)
        rank = range(len(active))
        wait, first = min((active[i].seconds_to_next() / shares[i], i) for i in rank)
        if len(line.ended_at) < most:
            area += wait * sum(len(e.running) + len(e.waiting) for e in active)
        clock += wait
        for engine, share in zip(active, shares, strict=True):
            engine.advance(wait * share)
        talk = active[first].finish()
        if not go_on(talk):
            line.ended_at.append(clock)
            if begun < len(talks):
                go_on(begun)
                begun += 1
    line.seconds = clock
    until = line.ended_at[most - 1] if talks else 0.0
    line.in_flight = area / until if until else 0.0
    for engine in everyone:
        line.busy[engine.role] = line.busy.get(engine.role, 0.0) + engine.work
    return line


def _shares(active: Sequence[_Engine], capacity: float) -> list[float]:
    """The part of full speed at which each of the active engines runs."""
    sharing = sum(engine.speed.shared for engine in active)
    share = min(1.0, capacity / sharing) if sharing else 1.0
    return [share if engine.speed.shared else 1.0 for engine in active]
