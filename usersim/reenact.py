"""A conversation held again from its journal: what the engines say now, against what they said.

Every turn is asked for with what was heard before it *then*, by the same code that holds
conversations, so that each turn is compared by itself and one that differs spoils no later one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from usersim.conversation import Message, Role
from usersim.engine import Completion, Engine, FinishReason, Sampling
from usersim.errors import DeterministicError, TransientError
from usersim.journal import Attempt, Ending, Journal
from usersim.outcome import Record
from usersim.plan import Plan, SimulateSettings
from usersim.talk import EXHAUSTED, Simulator, Talk

Kind = Literal["said", "heard", "judged"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One attempt at a turn that is not what it was.

    `kind`: the engine `said` something else after the same prompt; it `heard` another prompt (the
    template or the tokenizer is another one); or the turn was `judged` by other rules.
    """

    kind: Kind
    position: int
    attempt: int
    role: Role
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Reenactment:
    """How many attempts were made again, and which of them came out otherwise."""

    attempts: int
    differences: list[Difference]


class _Over(Exception):
    """No error: the record says nothing beyond this point."""


class _Scene:
    """The record of a conversation, and how far it was followed."""

    def __init__(self, record: Record, plan: Plan, retries: int) -> None:
        self.record = record
        self.done = self.asked = 0
        self._by_seed: dict[int | None, int] = {
            plan.turn_seed(then.position, then.attempt, retries): number
            for number, then in enumerate(record.attempts)
        }
        self.differences: list[Difference] = []

    @property
    def next(self) -> Attempt | None:
        """The attempt to come, as it was recorded."""
        attempts = self.record.attempts
        return attempts[self.done] if self.done < len(attempts) else None

    def ask(self, sampling: Sampling) -> Attempt | None:
        """The recorded answer to a question, known by its seed, in whatever order they come.

        Candidates for a turn are asked for at once, and any of them again after a transient error.
        """
        number = self._by_seed.get(sampling.seed)
        if number is None:
            return None
        self.asked = max(self.asked, number + 1)
        return self.record.attempts[number]

    @property
    def candidates(self) -> list[Attempt]:
        """What was asked for and not judged yet."""
        return self.record.attempts[self.done : self.asked]

    def differs(self, kind: Kind, before: str, after: str, then: Attempt | None = None) -> None:
        """Note that an attempt, by default the one to come, is not what it was."""
        then = then or self.next or next(reversed(self.record.attempts), None)
        position, attempt = (then.position, then.attempt) if then else (0, 0)
        role: Role = then.role if then else "user"
        self.differences.append(Difference(kind, position, attempt, role, before, after))


class _Prompted:
    """An engine that is asked, compared with the record, and corrected by it."""

    def __init__(self, engine: Engine, scene: _Scene) -> None:
        self._engine, self._scene = engine, scene

    @property
    def model(self) -> str:
        return self._engine.model

    @property
    def context_tokens(self) -> int:
        return self._engine.context_tokens

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        then = self._scene.ask(sampling)
        if then is None:
            return await self._beyond(messages, sampling)
        try:
            now = await self._engine.complete(messages, sampling)
        except DeterministicError as error:
            self._scene.differs("said", then.text, f"({error.reason}: {error})", then)
        else:
            self._compare(then, now)
        return Completion(
            then.text,
            cast(FinishReason, then.finish),
            then.prompt_tokens,
            then.completion_tokens,
            then.cached_tokens,
        )

    async def _beyond(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """What comes after the last recorded attempt can only be the error that ended it."""
        ending = self._scene.record.ending
        if ending is None:
            raise _Over
        if ending.stop_reason not in ("error", "token_budget"):
            self._scene.differs("judged", _named(ending), "went on")
            raise _Over
        now = await self._engine.complete(messages, sampling)  # it should refuse, as it did
        self._scene.differs("said", f"({ending.stop_reason}: {ending.detail})", now.text)
        raise _Over

    def _compare(self, then: Attempt, now: Completion) -> None:
        if now.prompt_tokens != then.prompt_tokens:
            tokens = f"{then.prompt_tokens} tokens", f"{now.prompt_tokens} tokens"
            self._scene.differs("heard", *tokens, then)
        elif (now.text.strip(), now.finish_reason) != (then.text, then.finish):
            before, after = then.text, now.text.strip()
            if before == after:
                before, after = f"{before} ({then.finish})", f"{after} ({now.finish_reason})"
            self._scene.differs("said", before, after, then)

    async def close(self) -> None:
        """The engine is its owner's to close."""


class _Notes(Journal):
    """A journal that writes nothing, and sees whether each turn is judged as it was."""

    def __init__(self, scene: _Scene) -> None:
        self._scene = scene

    async def add(self, entry: Attempt | Ending) -> None:
        then = self._scene.next
        assert isinstance(entry, Attempt)
        assert then is not None
        if entry.reason != then.reason:
            self._scene.differs("judged", then.reason or "accepted", entry.reason or "accepted")
            raise _Over
        self._scene.done += 1


class _Openers:
    """Stands for the run's other openers: an opener is too near to one if it was so then."""

    def __init__(self, scene: _Scene) -> None:
        self._scene = scene

    def offer(self, key: str, text: str) -> str | None:
        refused = {a.text for a in self._scene.candidates if a.reason == "near_duplicate_opener"}
        return "another" if text.strip() in refused else None


async def reenact(
    record: Record,
    plan: Plan,
    settings: SimulateSettings,
    engines: Mapping[Role, Engine],
    retries: int = 0,
) -> Reenactment:
    """Hold a recorded conversation again; `retries` is how often it had been put aside.

    Raises what the engines raise, but for their refusals, which are differences; a TransientError
    only where it stays when tried again.
    """
    scene = _Scene(record, plan, retries)
    prompted: dict[Role, Engine] = {role: _Prompted(e, scene) for role, e in engines.items()}
    openers = _Openers(scene)
    talk = Talk(plan, _Notes(scene), retries=retries)
    try:
        ending = await Simulator(settings, prompted, openers, lambda: True).converse(talk)
    except _Over:
        return Reenactment(scene.done, scene.differences)
    goes_on = record.ending is None or scene.next is not None
    before = "went on" if goes_on or not record.ending else _named(record.ending)
    if before != _named(ending):
        if ending.reason == EXHAUSTED:
            raise TransientError(f"the engine does not answer, try again later: {ending.detail}")
        scene.differs("judged", before, _named(ending))
    return Reenactment(scene.done, scene.differences)


def _named(ending: Ending) -> str:
    return f"{ending.stop_reason} ({ending.reason})" if ending.reason else ending.stop_reason
