"""What came of the conversations, read off the journals: published and rejected rows, figures."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from usersim.conversation import Conversation, Message, Rejection, Role
from usersim.journal import Attempt, Ending, Journal
from usersim.plan import Plan, SimulateSettings

STAGE = "simulate"
LEFT = "left"
"""The journal's reason for the empty user turn that ends a conversation."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a journal holds of one conversation."""

    index: int
    attempts: list[Attempt]
    ending: Ending | None

    @property
    def accepted(self) -> list[Attempt]:
        """The turns that stand, in order."""
        return [a for a in self.attempts if a.accepted]

    @property
    def published(self) -> list[Attempt]:
        """Whole rounds only: a last user turn that nobody answered is left out, not made up for."""
        turns = self.accepted
        return turns[: len(turns) // 2 * 2]


def records(journal: Journal) -> Iterator[Record]:
    """Every conversation that a journal has heard of, one in memory at a time."""
    endings = journal.endings()
    for index, attempts in groupby(journal.attempts(), key=lambda a: a.conversation):
        yield Record(index, list(attempts), endings.pop(index, None))
    for index, ending in sorted(endings.items()):  # over before the first completion
        yield Record(index, [], ending)


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is the same for every conversation of a run."""

    settings: SimulateSettings
    recipe: str
    user_model: str
    assistant_model: str


def outcome(record: Record, plan: Plan, lineage: Lineage) -> Conversation | Rejection:
    """The published row of an ended conversation, or why there is none (no round was finished)."""
    ending = record.ending
    assert ending is not None, f"conversation {record.index} has not ended"
    turns = record.published
    if not turns:
        spoken = [{"role": a.role, "content": a.text, "refused": a.reason} for a in record.attempts]
        row = json.dumps({"id": plan.id, "seed": plan.seed, "attempts": spoken}, ensure_ascii=False)
        return Rejection(plan.id, STAGE, ending.reason or ending.stop_reason, ending.detail, row)
    system = (Message("system", plan.system),) if plan.system else ()
    return Conversation(
        id=plan.id,
        messages=(*system, *(message_of(a) for a in turns)),
        source=lineage.settings.source,
        license=lineage.settings.license,
        stop_reason=ending.stop_reason,
        user_model=lineage.user_model,
        assistant_model=lineage.assistant_model,
        recipe=lineage.recipe,
        seed=plan.seed,
        intent_id=plan.brief.intent_id or None,
        persona_id=plan.brief.persona_id or None,
        character_id=plan.brief.character_id or None,
        scene_id=plan.brief.scene_id or None,
        user_tokens=_tokens(turns, "user"),
        assistant_tokens=_tokens(turns, "assistant"),
        cut_turns=tuple(i for i, a in enumerate(turns) if a.finish == "length"),
    )


def message_of(attempt: Attempt) -> Message:
    """The message that an accepted attempt became."""
    return Message(attempt.role, attempt.text)


def _tokens(turns: Iterable[Attempt], role: Role) -> int:
    return sum(a.completion_tokens for a in turns if a.role == role)


@dataclass(slots=True)
class Spent:
    """What the sessions of a run took, accumulated over resumes; kept beside the journals."""

    seconds: float = 0.0
    sessions: int = 0
    transient_retries: int = 0
    peak_requests: int = 0
    slot_occupancy: dict[str, float] = field(default_factory=dict)
    """Of the last sitting, by role."""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in its file."""
        return asdict(self)


@dataclass(slots=True)
class Tally:
    """Figures of a run, added up conversation by conversation."""

    published: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    rounds: Counter[int] = field(default_factory=Counter)
    stop_reasons: Counter[str] = field(default_factory=Counter)
    guards: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    usage: dict[str, Counter[str]] = field(
        default_factory=lambda: {"user": Counter(), "assistant": Counter()}
    )
    opener_retries: int = 0
    truncated_answers: int = 0
    unanswered_turns: int = 0

    def add(self, record: Record, result: Conversation | Rejection) -> None:
        """Count an ended conversation."""
        if isinstance(result, Rejection):
            self.rejected[result.reason] += 1
        else:
            self.published += 1
            self.rounds[result.num_rounds] += 1
            self.stop_reasons[str(result.stop_reason)] += 1
        self.unanswered_turns += len(record.accepted) - len(record.published)
        for attempt in record.attempts:
            self._count(attempt)

    def _count(self, attempt: Attempt) -> None:
        tokens, refused = self.tokens, not attempt.accepted and attempt.reason != LEFT
        tokens["prompt"] += attempt.prompt_tokens
        tokens["cached"] += attempt.cached_tokens
        tokens["refused" if refused else attempt.role] += attempt.completion_tokens
        self.usage[attempt.role].update(
            prompt=attempt.prompt_tokens,
            cached=attempt.cached_tokens,
            completion=attempt.completion_tokens,
        )
        if refused:
            self.guards[f"{attempt.role}:{attempt.reason}"] += 1
            self.opener_retries += attempt.position == 0
        elif attempt.role == "assistant" and attempt.finish == "length":
            self.truncated_answers += 1

    def figures(self, spent: Spent) -> dict[str, Any]:
        """As they stand in metrics.json; rates are over the time in which both roles talked."""
        total_rounds = sum(n * count for n, count in self.rounds.items())
        seconds, tokens = max(spent.seconds, 1e-9), self.tokens
        return {
            "planned": self.published + self.rejected.total(),
            "conversations": self.published,
            "rejected": self.rejected.total(),
            "rejected_reasons": _sorted(self.rejected),
            "rounds_mean": total_rounds / self.published if self.published else 0.0,
            "rounds": {str(n): self.rounds[n] for n in sorted(self.rounds)},
            "tokens": {role: tokens[role] for role in ("user", "assistant")},
            "tokens_refused": tokens["refused"],
            "tokens_per_s": {role: tokens[role] / seconds for role in ("user", "assistant")},
            "prompt_tokens": tokens["prompt"],
            "cached_tokens": tokens["cached"],
            "usage": {role: dict(self.usage[role]) for role in ("user", "assistant")},
            "cache_hit_rate": tokens["cached"] / tokens["prompt"] if tokens["prompt"] else 0.0,
            "stop_reasons": _sorted(self.stop_reasons),
            "guards": _sorted(self.guards),
            "opener_retries": self.opener_retries,
            "truncated_answers": self.truncated_answers,
            "unanswered_turns": self.unanswered_turns,
            **spent.to_dict(),
        }


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return {key: counts[key] for key in sorted(counts)}
