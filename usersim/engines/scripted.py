"""Engines that follow a script: for tests, dry runs and measuring the orchestration itself.

They speak the same protocol as the real ones, count tokens as words, and misbehave on demand.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from usersim.conversation import Message, Role
from usersim.engine import Completion, Engine, Sampling
from usersim.errors import DeterministicError, EngineDead, EngineError, TransientError

Answer = str | Completion
"""A script's line: words to say (a `Completion` to say how they end); "" means the speaker left."""

Script = Callable[[Sequence[Message], Sampling], Answer]


def count_tokens(text: str) -> int:
    """A scripted engine's tokens are words."""
    return len(text.split())


def as_completion(answer: Answer, messages: Sequence[Message], sampling: Sampling) -> Completion:
    """The answer with its counts; words beyond `max_tokens` are cut (finish "length")."""
    if isinstance(answer, Completion):
        return answer
    words = answer.split()
    prompt = sum(count_tokens(m.content) for m in messages)
    if len(words) > sampling.max_tokens:
        text = " ".join(words[: sampling.max_tokens])
        return Completion(text, "length", prompt, sampling.max_tokens)
    return Completion(answer, "stop", prompt, len(words))


class ScriptedEngine:
    """Says what `script(messages, sampling)` says."""

    determinism = "text"

    def __init__(self, script: Script, model: str = "scripted", context_tokens: int = 4096) -> None:
        self._script = script
        self._model = model
        self._context_tokens = context_tokens
        self.calls = 0
        """Completions asked for so far."""
        self.closed = False

    @property
    def model(self) -> str:
        """The name given at construction."""
        return self._model

    @property
    def context_tokens(self) -> int:
        """The context given at construction, in words."""
        return self._context_tokens

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The script's answer. Raises what the script raises."""
        self.calls += 1
        prompt = sum(count_tokens(m.content) for m in messages)
        if prompt + sampling.max_tokens > self._context_tokens:
            raise DeterministicError(f"{prompt} words do not fit", reason="context_full")
        await asyncio.sleep(0)
        return as_completion(self._script(messages, sampling), messages, sampling)

    async def close(self) -> None:
        """Nothing to give back."""
        self.closed = True


class HeldEngine:
    """Another engine, held back until `released` is set: slow, without a clock."""

    def __init__(self, engine: Engine, released: asyncio.Event) -> None:
        self._engine = engine
        self._released = released
        self.waiting = 0
        """Completions held back now."""

    @property
    def model(self) -> str:
        """The held engine's name."""
        return self._engine.model

    @property
    def context_tokens(self) -> int:
        """The held engine's context."""
        return self._engine.context_tokens

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The held engine's answer, once released."""
        self.waiting += 1
        try:
            await self._released.wait()
        finally:
            self.waiting -= 1
        return await self._engine.complete(messages, sampling)

    async def close(self) -> None:
        """Close the held engine."""
        await self._engine.close()


def answers(lines: Iterable[Answer], model: str = "answers") -> ScriptedEngine:
    """Says the lines in the order they are asked for, then leaves ("")."""
    script = iter(lines)
    return ScriptedEngine(lambda messages, sampling: next(script, ""), model)


def echo(model: str = "echo") -> ScriptedEngine:
    """Repeats the last message; with no message yet, says where it stands in the script."""

    def script(messages: Sequence[Message], sampling: Sampling) -> Answer:
        return messages[-1].content if messages else f"echo opens with seed {sampling.seed}"

    return ScriptedEngine(script, model)


def repeating(text: str, model: str = "repeating") -> ScriptedEngine:
    """Says the same, whatever it hears."""
    return ScriptedEngine(lambda messages, sampling: text, model)


def never_ending(model: str = "never-ending") -> ScriptedEngine:
    """Talks until cut: every completion ends by length."""

    def script(messages: Sequence[Message], sampling: Sampling) -> Answer:
        return " ".join(f"word{sampling.seed}x{n}" for n in range(sampling.max_tokens + 1))

    return ScriptedEngine(script, model)


def role_flipping(model: str = "role-flipping") -> ScriptedEngine:
    """A user who answers instead of asking."""
    return repeating("As an AI language model, I would be happy to help you with that.", model)


def talkative(rounds: int | None = None, model: str = "talkative") -> ScriptedEngine:
    """A different sentence for every turn; as a user it leaves after `rounds` rounds (None: never).

    What is said depends on the messages and the sampling seed only, so that two runs of one plan
    say the same, whatever the order.
    """

    def script(messages: Sequence[Message], sampling: Sampling) -> Answer:
        heard = sum(1 for m in messages if m.role == "assistant")
        if rounds is not None and heard >= rounds:
            return ""
        seed = sampling.seed or 0
        return " ".join(_WORDS[(seed // 7**n + n) % len(_WORDS)] for n in range(9)) + f" {seed}"

    return ScriptedEngine(script, model)


def failing(
    engine: ScriptedEngine, error: EngineError, times: int | None = None, after: int = 0
) -> ScriptedEngine:
    """`engine`, but after its first `after` answers raises `error` `times` times (None: ever)."""
    state = {"asked": 0}

    def script(messages: Sequence[Message], sampling: Sampling) -> Answer:
        state["asked"] += 1
        failed = state["asked"] - after
        if failed > 0 and (times is None or failed <= times):
            raise error
        return engine._script(messages, sampling)

    return ScriptedEngine(script, engine.model, engine.context_tokens)


def overloaded(engine: ScriptedEngine, times: int | None = None) -> ScriptedEngine:
    """`engine` behind `times` transient errors (None: always)."""
    return failing(engine, TransientError("scripted: overloaded"), times)


def refusing(engine: ScriptedEngine, reason: str = "engine_refused") -> ScriptedEngine:
    """Refuses every request in a way that trying again does not mend."""
    return failing(engine, DeterministicError("scripted: refused", reason))


def dying(engine: ScriptedEngine, after: int = 0) -> ScriptedEngine:
    """`engine`, dead after its first `after` answers."""
    return failing(engine, EngineDead("scripted: dead"), after=after)


SCRIPTS: dict[str, Callable[[Role], ScriptedEngine]] = {
    "echo": lambda role: echo(),
    "talkative": lambda role: talkative(rounds=3 if role == "user" else None),
    "never-ending": lambda role: never_ending(),
    "role-flipping": lambda role: role_flipping(),
}
"""Scripts that a recipe can name: `{kind: scripted, model: talkative}`."""

_WORDS = (
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "haven",
    "indigo",
    "jasper",
    "kelp",
    "lotus",
    "maple",
    "nectar",
    "olive",
    "pebble",
    "quartz",
    "raven",
    "saffron",
    "timber",
    "umber",
    "velvet",
    "willow",
    "xenon",
    "yarrow",
    "zephyr",
)
