"""The baseline: untrained weights that are told to act as a user, in the same loop as UserGPT."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from usersim.checkpoints import stamp
from usersim.conversation import Conversation, Message
from usersim.engine import Completion, Engine, Sampling
from usersim.engines import EngineSpec
from usersim.files import fingerprint, read_conversations
from usersim.plan import SimulateSettings
from usersim.simulate import open_engines, simulate_async


@dataclass(frozen=True, slots=True)
class Instructed:
    """An engine that is told the same before every conversation; closing is left to its owner."""

    engine: Engine
    told: str
    """The system message; "" leaves the engine as it is."""

    @property
    def model(self) -> str:
        """The engine's name, for lineage."""
        return f"{self.engine.model}-prompted" if self.told else self.engine.model

    @property
    def context_tokens(self) -> int:
        """The engine's own."""
        return self.engine.context_tokens

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The engine's turn. Raises what the engine raises."""
        own = bool(messages) and messages[0].role == "system"
        heard = messages if own or not self.told else (Message("system", self.told), *messages)
        return await self.engine.complete(heard, sampling)

    async def close(self) -> None:
        """Does nothing."""


@dataclass(frozen=True, slots=True)
class Speakers:
    """Who talks in a simulation of our own."""

    user: EngineSpec
    assistant: EngineSpec
    told: str = ""
    """What the user's model is told; "" leaves it to its template."""


def simulated(
    speakers: Speakers, settings: SimulateSettings, folder: Path, seed: int
) -> list[Conversation]:
    """Hold the conversations that `folder` lacks, and return all of them.

    What was held by the same weights with the same settings is read from there. Raises what
    `simulate` raises.
    """
    specs = [spec.model_dump(mode="json") for spec in (speakers.user, speakers.assistant)]
    models = [(spec["model"], spec["kind"]) for spec in specs]
    names = filter(None, (*(model for model, _ in models), settings.likeness))
    files = [stamp(Path(name)) for name in names]
    wanted = [models, files, speakers.told, settings.model_dump(mode="json"), seed]
    identity = fingerprint(wanted)
    run = folder / identity
    if not (run / "done").is_file():
        asyncio.run(_hold(speakers, settings, run, (identity, seed)))
        (run / "done").touch()
    paths = sorted((run / "conversations").glob("*.parquet"))
    return [conversation for path in paths for conversation in read_conversations(path)]


async def _hold(
    speakers: Speakers, settings: SimulateSettings, run: Path, key: tuple[str, int]
) -> None:
    async with AsyncExitStack() as stack:
        engines = await open_engines(
            stack, {"user": speakers.user, "assistant": speakers.assistant}
        )
        user = Instructed(engines["user"], speakers.told)
        await simulate_async(settings, user, engines["assistant"], run, *key)
