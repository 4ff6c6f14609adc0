"""Stage `learn_likeness`: a classifier learns what tells a user model's turns from people's.

UserGPT opens conversations from nothing and goes on with real ones of its training people; the
classifier learns its turns against theirs. Held-out people have no part in it, so that fidelity can
be measured on them afterwards.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.checkpoints import resolve_checkpoint
from usersim.conversation import Conversation, Message
from usersim.engine import Engine
from usersim.engines import EngineSpec
from usersim.errors import DeterministicError, InputError, TransientError
from usersim.fidelity.auc import auc
from usersim.fidelity.classifiers import LinearModel, counted
from usersim.likeness import PARTS, Likeness
from usersim.plan import FORBID_END, SamplingSettings
from usersim.progress import track
from usersim.rows import ViewSettings
from usersim.settings import Settings
from usersim.train import pick, read_people

IN_FLIGHT = 96
"""Turns asked for at once: more than an engine has slots."""
FEWEST = 40
"""Turns of a side below which nothing can be learned."""
TESTED = 5
"""Every fifth turn is left out when the area is measured, and learned from afterwards."""
LATER_ROUNDS = 3
"""Later turns of one person that are read; a few talk for a hundred rounds."""
VIEW = ViewSettings()


class LikenessSettings(Settings):
    """Stage `learn_likeness`: what tells UserGPT's turns from people's."""

    turns: int = Field(
        1000, ge=FEWEST, description="turns drawn from UserGPT, of openers and of later ones each"
    )
    people_turns: int = Field(
        4000, ge=FEWEST, description="people's turns of each kind that they are held against"
    )


def learn_likeness(
    settings: LikenessSettings,
    sampling: SamplingSettings,
    user: EngineSpec | Engine,
    people: Path,
    out: Path,
    seed: int = 0,
) -> dict[str, Any]:
    """Draw turns, learn, write `out`; returns what was learned, by part.

    Each of `first` and `later` has `people` and `simulated` (turns) and `auc`: how well those that
    it did not learn from are told, 0.5 is not at all. Raises InputError where there are too few.
    """
    train = read_people(people / "train.parquet")
    persons = pick(train, settings.people_turns, seed)
    chat = _chat_of(user)
    found = (each for c in persons for each in contexts(c, chat))
    later = list(islice(found, settings.people_turns))  # the others need not be tokenised
    asked: dict[str, list[list[Message]]] = {
        "first": [[] for _ in range(settings.turns)],
        "later": [context for context, _ in later[: settings.turns]],
    }
    typed = {"first": [c.opener for c in persons], "later": [turn for _, turn in later]}
    drawn = asyncio.run(_drawn(user, asked, sampling))
    tokens = sum(n for _, n in drawn["first"] + drawn["later"])
    learned = {part: _learned(typed[part], [t for t, _ in drawn[part]], part) for part in PARTS}
    Likeness(*(model for model, _ in learned.values())).write(out)
    return {part: figures for part, (_, figures) in learned.items()} | {"tokens": tokens}


def _chat_of(user: EngineSpec | Engine) -> ChatFormat | None:
    """The user model's own format, to shorten answers as its training did; None: they stay."""
    if not isinstance(user, EngineSpec) or user.kind != "vllm":
        return None
    return ChatFormat.of(load_tokenizer(resolve_checkpoint(user.adapter or user.model)))


def contexts(
    conversation: Conversation, chat: ChatFormat | None
) -> Iterator[tuple[list[Message], str]]:
    """What a person had before them when they typed each later turn, and that turn."""
    turns = conversation.turns
    for position in range(2, min(len(turns), 2 * LATER_ROUNDS + 1), 2):
        before = [clipped(m, chat) if chat else m for m in turns[:position]]
        yield before, turns[position].content


def clipped(message: Message, chat: ChatFormat) -> Message:
    """The message as training shows it."""
    ids = list(chat.text_ids(message.content))
    if message.role == "user":
        ids = ids[: VIEW.target_limit]
    elif len(ids) > VIEW.context_limit:
        tail = VIEW.context_limit // 4
        ids = ids[: VIEW.context_limit - tail] + ids[len(ids) - tail :]
    return Message(message.role, chat.tokenizer.decode(ids) or " ")


async def _drawn(
    user: EngineSpec | Engine, asked: dict[str, list[list[Message]]], sampling: SamplingSettings
) -> dict[str, list[tuple[str, int]]]:
    """A turn in each context and its tokens; those that a limit cut off have no text."""
    from usersim.simulate import open_engines

    async with AsyncExitStack() as stack:
        engine = (await open_engines(stack, {"user": user}))["user"]
        slots = asyncio.Semaphore(IN_FLIGHT)
        with track("draw turns", sum(map(len, asked.values())), "turns") as bar:

            async def one(messages: list[Message], number: int) -> tuple[str, int]:
                async with slots:
                    try:
                        said = await engine.complete(messages, sampling.drawn(number, FORBID_END))
                    except (DeterministicError, TransientError):
                        return "", 0  # too long a context, or an overloaded server: one fewer
                    finally:
                        bar.advance()
                whole = said.finish_reason == "stop"
                return (said.text.strip() if whole else ""), said.completion_tokens

            return {
                part: await asyncio.gather(*(one(m, n) for n, m in enumerate(each)))
                for part, each in asked.items()
            }


def _learned(
    people: Sequence[str], simulated: Sequence[str], part: str
) -> tuple[LinearModel, dict[str, Any]]:
    """The model of all turns, and how well one of four fifths tells the others."""
    import numpy as np

    said = [text for text in simulated if text]
    sizes = {"people": len(people), "simulated": len(said)}
    if min(sizes.values()) < FEWEST:
        raise InputError(
            f"likeness: {sizes['people']} turns of people and {sizes['simulated']} whole simulated"
            f" ones ({part}); {FEWEST} of each are needed. More people, or simulate.candidates=1"
        )
    counts = counted([*people, *said])
    is_people = np.arange(len(people) + len(said)) < len(people)
    tested = np.arange(len(is_people)) % TESTED == 0
    known = LinearModel.fit([part[~tested] for part in counts], is_people[~tested])
    scores = known.log_odds([part[tested] for part in counts])
    area = auc(scores, is_people[tested], np.zeros(int(tested.sum()), dtype=np.int64))
    return LinearModel.fit(counts, is_people), {**sizes, "auc": area}
