"""Objective probes: which of two answers a model finds likelier, the true one or the false.

No judge is needed. Each pair is of one length and in other words than anything trained on; what a
model believed beforehand cancels out in the paired difference to its base. Intervals are percentile
bootstrap over pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.characters.profile import Profile
from assistant.characters.protective import boundary_questions
from assistant.characters.train import own_header
from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.checkpoints import resolve_checkpoint
from usersim.conversation import Conversation, Message
from usersim.perplexity import interval, score_rows
from usersim.rows import ViewSettings, conversation_rows
from usersim.sft import load_model

WIDE = ViewSettings(window=4096, target_limit=160, context_limit=3000)
"""Nothing of a prompt that holds a whole story is cut off."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A question, and two answers of which the first should be the likelier."""

    kind: str
    """`fact`, or the boundary that is asked about."""
    ask: str
    right: str
    wrong: str


@dataclass(frozen=True, slots=True)
class Margin:
    """How much likelier the right answer was, in nats per token; below 0 the wrong one was."""

    kind: str
    ask: str
    nats: float


def pairs_of(profile: Profile) -> list[Pair]:
    """All that a character is probed with: its facts and the four boundaries."""
    facts = [Pair("fact", p.ask, p.true, p.false) for p in profile.probes]
    guards = [Pair(q.boundary, q.ask, q.held, q.crossed) for q in boundary_questions(profile)]
    return [*facts, *guards]


def prompted(profile: Profile, whole: bool = False) -> str:
    """What a model that was not trained is told: the same occasion, and the story's beginning.

    `whole`: the story from end to end, an open book.
    """
    told = profile.text if whole else profile.paragraphs[0].text
    return f"{own_header(profile)}\nAbout {profile.name}: {told}"


def probe(model: str | Path, system: str, pairs: Sequence[Pair], title: str) -> list[Margin]:
    """The margins of a model under a system message, in the order of `pairs`."""
    checkpoint = resolve_checkpoint(model)
    chat = ChatFormat.of(load_tokenizer(checkpoint)).playing("assistant", "")
    rows = []
    for number, pair in enumerate(pairs):
        for answer in (pair.right, pair.wrong):
            said = (Message("system", system), Message("user", pair.ask))
            talk = Conversation(id=str(number), messages=(*said, Message("assistant", answer)))
            rows += conversation_rows(talk, chat, "assistant", WIDE)
    loaded = load_model(checkpoint, training=False)
    scores = score_rows(loaded, rows, chat.end_of_conversation_id, title)
    nats = [score.nll / score.tokens for score in scores]
    return [
        Margin(pair.kind, pair.ask, nats[2 * n + 1] - nats[2 * n]) for n, pair in enumerate(pairs)
    ]


def figures(margins: Sequence[Margin]) -> dict[str, Any]:
    """By kind: pairs, share of right ones and mean margin, each with its interval."""
    groups = _by_kind(margins)
    return {
        kind: {
            "pairs": len(values),
            "right": interval([float(v > 0) for v in values]).to_dict(),
            "margin": interval(values).to_dict(),
        }
        for kind, values in groups.items()
    }


def change(before: Sequence[Margin], after: Sequence[Margin]) -> dict[str, Any]:
    """By kind: how much more often right, and by how much more, `after` is; paired intervals."""
    assert [m.ask for m in before] == [m.ask for m in after]
    first, second = _by_kind(before), _by_kind(after)
    changes = {}
    for kind, values in first.items():
        both = list(zip(values, second[kind], strict=True))
        rights = [float(b > 0) - float(a > 0) for a, b in both]
        nats = [b - a for a, b in both]
        changes[kind] = {"right": interval(rights).to_dict(), "margin": interval(nats).to_dict()}
    return changes


def _by_kind(margins: Sequence[Margin]) -> Mapping[str, list[float]]:
    """Margins by kind; all boundaries together as `boundary` too."""
    groups: dict[str, list[float]] = {}
    for margin in margins:
        groups.setdefault(margin.kind, []).append(margin.nats)
        if margin.kind != "fact":
            groups.setdefault("boundary", []).append(margin.nats)
    return groups
