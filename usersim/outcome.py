"""What came of the conversations, read off the journals: published and rejected rows, figures."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Self

from usersim.conversation import Conversation, Message, Rejection, Role
from usersim.journal import Attempt, Ending, Journal
from usersim.plan import Plan, SimulateSettings

STAGE = "simulate"
FIGURES = "realchat_figures"
"""The key of a shard's figures in the footer of its data file."""
OWNER = "realchat_owner"
"""The key of whose shard it is, as its journal is signed."""
USAGE = ("prompt", "cached", "completion")
LEFT = "left"
"""The journal's reason for the empty user turn that ends a conversation."""
PASSED_OVER = "passed_over"
"""The journal's reason for a candidate that could have stood, where another was taken."""


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
    def failed(self) -> bool:
        """Whether it ended in an engine's error."""
        return self.ending is not None and self.ending.stop_reason == "error"

    @property
    def published(self) -> list[Attempt]:
        """Whole rounds only: a last user turn that nobody answered is left out, not made up for."""
        turns = self.accepted
        return turns[: len(turns) // 2 * 2]


def records(journal: Journal, only: Sequence[int] | None = None) -> Iterator[Record]:
    """Every conversation that a journal has heard of, or `only` these; one in memory at a time."""
    endings = journal.endings(only)
    for index, attempts in groupby(journal.attempts(only), key=lambda a: a.conversation):
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
    worker_seconds: float = 0.0
    """For which workers had their engines open, added up; of one machine the same."""
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
    """Figures of a run, added up conversation by conversation, or shard by shard."""

    counts: Counter[str] = field(default_factory=Counter)
    """One level, so that adding up is `Counter.update`: `published`, `rounds/3`, `rejected/error`,
    `tokens/user`, `usage/user/prompt` ..."""

    @property
    def published(self) -> int:
        """Conversations with at least one whole round."""
        return self.counts["published"]

    @property
    def rejected(self) -> dict[str, int]:
        """The others, by reason."""
        return self._under("rejected")

    @property
    def ended(self) -> int:
        """All conversations that were counted."""
        return self.published + sum(self.rejected.values())

    def _under(self, name: str) -> dict[str, int]:
        start = f"{name}/"
        found = {k.removeprefix(start): n for k, n in self.counts.items() if k.startswith(start)}
        return {key: found[key] for key in sorted(found)}

    def add(self, record: Record, result: Conversation | Rejection) -> None:
        """Count an ended conversation."""
        counts = self.counts
        if isinstance(result, Rejection):
            counts[f"rejected/{result.reason}"] += 1
        else:
            counts["published"] += 1
            counts[f"rounds/{result.num_rounds}"] += 1
            counts[f"stop_reasons/{result.stop_reason}"] += 1
        counts["unanswered_turns"] += len(record.accepted) - len(record.published)
        for attempt in record.attempts:
            self._count(attempt)

    def _count(self, attempt: Attempt) -> None:
        counts, passed_over = self.counts, attempt.reason == PASSED_OVER
        refused = not attempt.accepted and not passed_over and attempt.reason != LEFT
        spent = "passed_over" if passed_over else "refused" if refused else attempt.role
        counts[f"tokens/{spent}"] += attempt.completion_tokens
        counts["candidates_passed_over"] += passed_over
        self._use("usage", attempt)
        if refused:
            counts[f"guards/{attempt.role}:{attempt.reason}"] += 1
            counts["opener_retries"] += attempt.position == 0
        elif not passed_over and attempt.role == "assistant" and attempt.finish == "length":
            counts["truncated_answers"] += 1

    def add_put_aside(self, attempts: Iterable[Attempt]) -> None:
        """Count what was paid for, and stands in no conversation any more."""
        for attempt in attempts:
            self._use("put_aside", attempt)

    def _use(self, name: str, attempt: Attempt) -> None:
        for kind in USAGE:
            self.counts[f"{name}/{attempt.role}/{kind}"] += getattr(attempt, f"{kind}_tokens")

    def _used(self, name: str) -> dict[str, dict[str, int]]:
        """Tokens by role and kind."""
        roles = ("user", "assistant")
        return {role: {k: self.counts[f"{name}/{role}/{k}"] for k in USAGE} for role in roles}

    def figures(self, spent: Spent) -> dict[str, Any]:
        """As they stand in metrics.json; rates are over the time in which both roles talked."""
        counts, roles = self.counts, ("user", "assistant")
        seconds = max(spent.seconds, 1e-9)
        rounds = {int(n): count for n, count in self._under("rounds").items()}
        total_rounds = sum(n * count for n, count in rounds.items())
        prompt, cached = (
            sum(counts[f"usage/{r}/{k}"] for r in roles) for k in ("prompt", "cached")
        )
        return {
            "planned": self.ended,
            "conversations": self.published,
            "rejected": self.ended - self.published,
            "rejected_reasons": self.rejected,
            "rounds_mean": total_rounds / self.published if self.published else 0.0,
            "rounds": {str(n): rounds[n] for n in sorted(rounds)},
            "tokens": {role: counts[f"tokens/{role}"] for role in roles},
            "tokens_refused": counts["tokens/refused"],
            "tokens_passed_over": counts["tokens/passed_over"],
            "candidates_passed_over": counts["candidates_passed_over"],
            "tokens_per_s": {role: counts[f"tokens/{role}"] / seconds for role in roles},
            "prompt_tokens": prompt,
            "cached_tokens": cached,
            "usage": self._used("usage"),
            **({"usage_put_aside": self._used("put_aside")} if self._under("put_aside") else {}),
            "cache_hit_rate": cached / prompt if prompt else 0.0,
            "stop_reasons": self._under("stop_reasons"),
            "guards": self._under("guards"),
            "opener_retries": counts["opener_retries"],
            "truncated_answers": counts["truncated_answers"],
            "unanswered_turns": counts["unanswered_turns"],
            **spent.to_dict(),
        }


@dataclass(slots=True)
class ShardFigures:
    """What a shard came to: it stands in the footer of the shard's data file."""

    tally: Tally = field(default_factory=Tally)
    rejected: list[int] = field(default_factory=list)
    """Which conversations have no row."""

    def counted(
        self,
        outcomes: Iterable[tuple[Record, Conversation | Rejection]],
        put_aside: Iterable[Attempt],
    ) -> Iterator[Conversation | Rejection]:
        """The same outcomes, each counted as it passes; and what was put aside."""
        self.tally.add_put_aside(put_aside)
        for record, result in outcomes:
            self.tally.add(record, result)
            if isinstance(result, Rejection):
                self.rejected.append(record.index)
            yield result

    def to_json(self) -> str:
        """A function of the shard's journal alone."""
        counts = self.tally.counts
        told = {"counts": {k: counts[k] for k in sorted(counts)}, "rejected": self.rejected}
        return json.dumps(told, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        told = json.loads(text)
        return cls(Tally(Counter(told["counts"])), told["rejected"])
