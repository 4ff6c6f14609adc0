"""One conversation, held: a coroutine that reads top to bottom like the conversation itself."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from usersim.conversation import Message, Role, StopReason
from usersim.engine import Completion, Engine, Sampling, all_or_none
from usersim.errors import DeterministicError, EngineDead, EngineUseless, TransientError
from usersim.guards import is_foreign, loop_among, refuse_turn
from usersim.journal import Attempt, Ending, Journal
from usersim.leaving import bias_after
from usersim.openers import Offers
from usersim.outcome import LEFT, PASSED_OVER, message_of
from usersim.plan import FORBID_END, Plan, SimulateSettings

if TYPE_CHECKING:
    from usersim.likeness import Likeness

TEMPLATE_TOKENS = 24
"""What a chat template adds to a round: two headers, two ends (5 tokens each in ChatML), air."""

EXHAUSTED = "transient_exhausted"
"""The reason of a conversation that ended because a transient error stayed."""
ENGINE_DIED = "engine_died"
"""The reason of a conversation that was alone with its engine when that died."""
NOBODY_LET_IN = {"not_authorized", "not_paid", "not_found", "redirected"}
"""Reasons of errors that say nothing of a conversation: of the key, the account or the address."""


class Drained(Exception):
    """No error: no new turn may begin; the conversation stays as it stands in the journal."""


class NoTurn(Exception):
    """No error of ours: no acceptable turn within the attempts; carries the last guard's reason."""

    def __init__(self, role: Role, reason: str) -> None:
        super().__init__(f"no acceptable {role} turn, the last was refused as {reason}")
        self.reason = reason


@dataclass(slots=True)
class Talk:
    """A conversation under way, as the journal knows it."""

    plan: Plan
    journal: Journal
    turns: list[Message] = field(default_factory=list)
    attempts: int = 0
    """Refused attempts at the turn to come."""
    retries: int = 0
    """How often the whole conversation was put aside, to be held again."""
    refused: str = ""
    """Why the last attempt at the turn to come was refused."""
    left: bool = False
    """Whether the user has left."""
    context: int = 0
    """Tokens of the longest prompt and completion so far, by either model's count."""

    def take(self, attempt: Attempt) -> None:
        """Bring the talk to where it stands after this attempt."""
        if attempt.position < len(self.turns):  # a candidate beside the one that was taken
            return
        if attempt.accepted:
            self.context = max(self.context, attempt.prompt_tokens + attempt.completion_tokens)
            self.turns.append(message_of(attempt))
            self.attempts, self.refused = 0, ""
        else:
            self.attempts, self.refused = attempt.attempt + 1, attempt.reason
            self.left = attempt.reason == LEFT

    @property
    def rounds(self) -> int:
        """Answered user turns."""
        return len(self.turns) // 2

    @property
    def user_is_next(self) -> bool:
        """Whether the next turn is the user's."""
        return len(self.turns) % 2 == 0

    def seed(self, candidate: int = 0) -> int:
        """The sampling seed of a candidate for the turn to come."""
        return self.plan.turn_seed(len(self.turns), self.attempts + candidate, self.retries)

    def next_try(self, candidates: int) -> int:
        """How often so many were drawn in vain; what a kill left of a try is not taken up."""
        tries = -(-self.attempts // candidates)
        self.attempts = tries * candidates
        return tries

    def ending(self, stop: StopReason, reason: str = "", detail: str = "") -> Ending:
        """The talk's ending, for the journal."""
        return Ending(self.plan.index, stop, reason, detail)


@dataclass(slots=True)
class Pace:
    """What a session does, for progress and figures; nothing here decides anything."""

    in_flight: int = 0
    peak_in_flight: int = 0
    transient_retries: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    """Prompt tokens: all of them, and those that a prefix cache held."""
    slots: dict[str, float] = field(default_factory=dict)
    """Share of each role's slots that had a turn, while there was work; where the engine knows."""
    worker_seconds: float | None = None
    """For which workers had their engines open, added up; None: one had, all the time."""


class Simulator:
    """Holds conversations between the engines of the two roles.

    `openers` refuses openers that are near-duplicates of another conversation's; `may_go_on` is
    asked before every turn.
    """

    def __init__(
        self,
        settings: SimulateSettings,
        engines: dict[Role, Engine],
        openers: Offers,
        may_go_on: Callable[[], bool],
    ) -> None:
        self.settings = settings
        self.engines = engines
        self.openers = openers
        self.pace = Pace()
        self.alone = 0
        """So many completions are asked for one by one, to learn whose an engine dies of."""
        self._one_by_one = asyncio.Lock()
        self._may_go_on = may_go_on
        self._likeness = likeness_of(settings)
        context = min(engine.context_tokens for engine in engines.values())
        self._budget = min(settings.token_budget, context)

    async def converse(self, talk: Talk) -> Ending:
        """Hold the conversation to its end, from wherever it stands.

        Raises Drained when no new turn may begin, EngineUseless when an engine does not let us in,
        and the engines' EngineDead.
        """
        try:
            while (stop := self._reason_to_stop(talk)) is None:
                if talk.user_is_next:
                    await self._user_speaks(talk)
                else:
                    await self._assistant_speaks(talk)
            return talk.ending(stop)
        except NoTurn as none:
            stop = "repetition" if none.reason == "parroting" else "bad_turn"
            return talk.ending(stop, none.reason, str(none))
        except DeterministicError as error:
            if error.reason in NOBODY_LET_IN:
                raise EngineUseless(str(error)) from error
            stop = "token_budget" if error.reason == "context_full" else "error"
            return talk.ending(stop, error.reason, str(error))

    def _reason_to_stop(self, talk: Talk) -> StopReason | None:
        """Why no further round begins; asked between rounds only, and of the turns only."""
        if not talk.user_is_next:
            return None
        if talk.left:
            return "user_ended"
        if talk.rounds >= talk.plan.max_rounds:
            return "max_rounds"
        round_tokens = (
            self.settings.user_sampling.max_tokens
            + self.settings.assistant_sampling.max_tokens
            + TEMPLATE_TOKENS
        )
        if talk.rounds and talk.context + round_tokens > self._budget:
            return "token_budget"
        return loop_among(talk.turns, self.settings.refusals)

    async def _user_speaks(self, talk: Talk) -> None:
        """One accepted user turn, or the user leaves."""
        if talk.plan.brief.opener and not talk.turns:
            await self._open_as_given(talk)
            return
        settings = self.settings
        may_leave = talk.rounds >= settings.min_rounds
        bias = bias_after(talk.rounds, settings.end_bias) if may_leave else FORBID_END
        limit = settings.turn_attempts if talk.turns else settings.opener_attempts

        def judge(candidate: int, completion: Completion) -> str | None:
            empty = not completion.text.strip() and completion.finish_reason == "stop"
            if may_leave and empty and candidate == 0:
                return LEFT
            refused = refuse_turn(completion.text, "user", completion.finish_reason, talk.turns)
            if refused is None and is_foreign(completion.text, talk.turns):
                return "wrong_language"
            return refused

        def draw(candidate: int) -> Sampling:
            # Whether the user leaves is the first one's to say: else more candidates, fewer ends.
            return settings.user_sampling.drawn(
                talk.seed(candidate), FORBID_END if candidate else bias
            )

        chooses = settings.chooses and not talk.plan.brief.user_system
        candidates = settings.candidates if chooses else 1
        await self._speak(talk, Asked("user", draw, judge, limit, candidates))

    async def _open_as_given(self, talk: Talk) -> None:
        """The first turn that the brief states: nobody is asked and nothing is refused."""
        text = talk.plan.brief.opener
        given = Completion(text, "stop", prompt_tokens=0, completion_tokens=0, cached_tokens=0)
        attempt = _attempt(talk, "user", 0, "", given)
        await talk.journal.add(attempt)
        talk.take(attempt)

    async def _assistant_speaks(self, talk: Talk) -> None:
        """One accepted answer. An answer cut at its limit is kept, and counted."""

        def judge(_: int, completion: Completion) -> str | None:
            return refuse_turn(completion.text, "assistant", completion.finish_reason, talk.turns)

        settings = self.settings

        def draw(_: int) -> Sampling:
            return settings.assistant_sampling.drawn(talk.seed())

        await self._speak(talk, Asked("assistant", draw, judge, settings.turn_attempts))

    async def _speak(self, talk: Talk, asked: "Asked") -> None:
        """Draw whole turns until one is accepted and journaled, or the speaker left.

        Raises NoTurn after `asked.tries` refused ones, those of earlier sessions included.
        """
        role, heard = asked.role, self._heard(talk, asked.role)
        while talk.next_try(asked.candidates) < asked.tries:
            drawn = [await self._ask(role, heard, asked.draw(0))]
            if asked.candidates > 1 and asked.judge(0, drawn[0]) != LEFT:
                others = range(1, asked.candidates)
                drawn += await all_or_none(self._ask(role, heard, asked.draw(n)) for n in others)
            refused = [asked.judge(n, each) for n, each in enumerate(drawn)]
            reasons = self._chosen(talk, role, drawn, refused)
            attempts = [
                _attempt(talk, role, n, reason or "", each)
                for n, (reason, each) in enumerate(zip(reasons, drawn, strict=True))
            ]
            if len(attempts) == 1:
                await talk.journal.add(attempts[0])
            else:  # a task each, which one alone need not pay for; one transaction takes them all
                await asyncio.gather(*map(talk.journal.add, attempts))
            for attempt in attempts:
                talk.take(attempt)
            if None in reasons or talk.left:
                return
        raise NoTurn(role, talk.refused)

    def _chosen(
        self, talk: Talk, role: Role, drawn: Sequence[Completion], refused: Sequence[str | None]
    ) -> list[str | None]:
        """Why each is not the turn; None for the one that is, if any can be."""
        reasons = list(refused)
        standing = [n for n, reason in enumerate(reasons) if reason is None]
        for n in self._ranked(talk, standing, drawn):
            text = drawn[n].text
            opens = role == "user" and not talk.turns
            if opens and self.openers.offer(talk.plan.id, text):
                reasons[n] = "near_duplicate_opener"
                continue
            return [PASSED_OVER if r is None and m != n else r for m, r in enumerate(reasons)]
        return reasons

    def _ranked(self, talk: Talk, standing: list[int], drawn: Sequence[Completion]) -> list[int]:
        """The candidates that can stand, the one to take first."""
        if self._likeness is None or len(standing) < 2:
            return standing
        texts = [drawn[n].text.strip() for n in standing]
        order = self._likeness.ranked(texts, opens=not talk.turns, seed=talk.seed())
        return [standing[n] for n in order]

    def _heard(self, talk: Talk, role: Role) -> Sequence[Message]:
        """What the speaker has before them: each one's system message is their own affair."""
        plan = talk.plan
        told = plan.system if role == "assistant" else plan.brief.user_system
        return (Message("system", told), *talk.turns) if told else tuple(talk.turns)

    async def _ask(self, role: Role, heard: Sequence[Message], sampling: Sampling) -> Completion:
        """One completion; transient errors are tried again, within bounds."""
        pause = self.settings.retry_pause_s
        for _ in range(self.settings.transient_retries):
            try:
                return await self._ask_once(role, heard, sampling)
            except TransientError:
                self.pace.transient_retries += 1
                await asyncio.sleep(pause)
                pause *= 2
        try:
            return await self._ask_once(role, heard, sampling)
        except TransientError as error:
            raise DeterministicError(str(error), reason=EXHAUSTED) from error

    async def _ask_once(
        self, role: Role, heard: Sequence[Message], sampling: Sampling
    ) -> Completion:
        async with self._one_by_one if self.alone else nullcontext():
            alone = self.alone > 0  # it may have been over while this one waited
            try:
                completion = await self._complete(role, heard, sampling)
            except EngineDead as error:
                self.alone = 0
                if alone:
                    raise DeterministicError(f"its engine died: {error}", ENGINE_DIED) from error
                raise
            self.alone -= alone
            return completion

    async def _complete(
        self, role: Role, heard: Sequence[Message], sampling: Sampling
    ) -> Completion:
        if not self._may_go_on():
            raise Drained
        pace = self.pace
        pace.in_flight += 1
        pace.peak_in_flight = max(pace.peak_in_flight, pace.in_flight)
        try:
            completion = await self.engines[role].complete(heard, sampling)
        finally:
            pace.in_flight -= 1
        pace.tokens[role] += completion.completion_tokens
        pace.prompts.update(all=completion.prompt_tokens, cached=completion.cached_tokens)
        return completion


def likeness_of(settings: SimulateSettings) -> "Likeness | None":
    """What chooses among candidates, where that is done. Raises InputError without its file."""
    if not settings.chooses:
        return None
    from usersim.likeness import Likeness

    return Likeness.read(Path(settings.likeness).expanduser())


@dataclass(frozen=True, slots=True)
class Asked:
    """A turn to be spoken: by whom, how each candidate is drawn, and what refuses it."""

    role: Role
    draw: Callable[[int], Sampling]
    judge: Callable[[int, Completion], str | None]
    tries: int
    candidates: int = 1


def _attempt(
    talk: Talk, role: Role, candidate: int, reason: str, completion: Completion
) -> Attempt:
    return Attempt(
        conversation=talk.plan.index,
        position=len(talk.turns),
        attempt=talk.attempts + candidate,
        role=role,
        reason=reason,
        text=completion.text.strip(),
        finish=completion.finish_reason,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        cached_tokens=completion.cached_tokens,
    )
