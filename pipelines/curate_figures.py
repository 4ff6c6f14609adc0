"""What curation found, counted: the funnel with its cost, and every finding, for metrics.json."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from pipelines.balance import Member
from pipelines.dedup import EXACT_REASONS, Duplicate
from pipelines.judging import FILTERS
from pipelines.portrait import before_and_after
from pipelines.witnesses import Witness
from usersim.conversation import Rejection
from usersim.funnel import FunnelStage
from usersim.memorisation import Recall, recall_figures

SPEAKERS = ("user", "assistant")
EXACT, NEAR, BALANCE = "exact duplicates", "near-duplicates", "balance"

Place = tuple[int, int]
"""Number of a shard, and of a row in it: what identifies a record even where ids repeat."""


class Tokens(NamedTuple):
    """Tokens that a conversation's turns took, by speaker."""

    user: int = 0
    assistant: int = 0


@dataclass(slots=True)
class Judged:
    """What the first pass found."""

    rejected: dict[Place, Rejection] = field(default_factory=dict)
    verdicts: dict[Place, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[Place, Tokens] = field(default_factory=dict)
    changes: Counter[str] = field(default_factory=Counter)
    recalls: list[Recall] = field(default_factory=list)
    members: dict[Place, Member] = field(default_factory=dict)
    """What the rules let pass."""
    sides: dict[Place, str] = field(default_factory=dict)
    """The user sides of everything that was judged."""

    def to_json(self) -> dict[str, Any]:
        """As JSON keeps it; `from_json` undoes it."""
        return {name: kind.dump_python(_listed(getattr(self, name)), mode="json")
                for name, kind in _kinds().items()}  # fmt: skip

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> "Judged":
        """What `to_json` gave; raises ValueError when it is something else."""
        kinds = _kinds()
        judged = cls()
        for name, kind in kinds.items():
            value = kind.validate_python(table[name])
            setattr(judged, name, type(getattr(judged, name))(value))
        return judged

    def add(self, other: "Judged") -> None:
        """Take in what was found in another shard."""
        self.rejected |= other.rejected
        self.verdicts |= other.verdicts
        self.tokens |= other.tokens
        self.changes += other.changes
        self.recalls += other.recalls
        self.members |= other.members
        self.sides |= other.sides


def _listed(value: Any) -> Any:
    """Mappings by place as lists: JSON has no such keys."""
    return value if isinstance(value, (Counter, list)) else list(value.items())


@cache
def _kinds() -> dict[str, TypeAdapter[Any]]:
    """How each field of Judged is checked when it is read again."""
    kinds: dict[str, Any] = {
        "rejected": list[tuple[Place, Rejection]],
        "verdicts": list[tuple[Place, dict[str, Any]]],
        "tokens": list[tuple[Place, Tokens]],
        "changes": dict[str, int],
        "recalls": list[Recall],
        "members": list[tuple[Place, Member]],
        "sides": list[tuple[Place, str]],
    }
    return {name: TypeAdapter(kind) for name, kind in kinds.items()}


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a conversation goes that the rules had let pass."""

    stage: str
    reason: str
    detail: str
    duplicate: Duplicate | None = None
    """Of what it is a duplicate, where it is one."""

    @classmethod
    def for_duplicate(cls, duplicate: Duplicate) -> "Drop":
        """The drop of a duplicate."""
        stage = EXACT if duplicate.reason in EXACT_REASONS else NEAR
        return cls(stage, duplicate.reason, str(duplicate), duplicate)


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens, and the seconds of engine time that they took where the pace is known."""

    tokens: int
    seconds: float | None

    @classmethod
    def of(cls, spent: Iterable[Tokens], rates: Mapping[str, float] | None) -> "Cost":
        """The cost of conversations; `rates` are tokens a second by speaker."""
        totals = [sum(column) for column in zip(*spent, strict=True)] or [0, 0]
        paces = [(rates or {}).get(speaker) for speaker in SPEAKERS]
        known = all(pace or not total for total, pace in zip(totals, paces, strict=True))
        pairs = zip(totals, paces, strict=True)
        seconds = sum(total / pace for total, pace in pairs if pace) if rates and known else None
        return cls(sum(totals), None if seconds is None else round(seconds, 2))

    def to_dict(self) -> dict[str, Any]:
        """As it stands in metrics.json."""
        return {"tokens": self.tokens, "seconds": self.seconds}


def figures_of(
    judged: Judged,
    num_kept: int,
    witnesses: Sequence[Witness],
    rates: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The stage's figures.

    `in`, `kept`, `kept_share`, `reasons`; `findings`: conversations that each rule has something
    against, deciding or not; `tags`; `mended`: places changed in what the filters kept, by kind;
    `languages`; `tokens` and `cost`: what was spent on everything, and on what was dropped, by
    reason (seconds are tokens over the simulation's rates: the engines' time, not the clock's);
    `funnel`, each stage with its cost; `contamination` and `memorisation`, where they were asked.
    """
    num_in, verdicts = len(judged.tokens), judged.verdicts.values()
    return {
        "in": num_in,
        "kept": num_kept,
        "kept_share": round(num_kept / num_in, 4) if num_in else 0.0,
        "reasons": dict(Counter(r.reason for r in judged.rejected.values()).most_common()),
        "findings": dict(Counter(name for v in verdicts for name in v["failed"]).most_common()),
        "tags": dict(Counter(tag for v in verdicts for tag in v["tags"]).most_common()),
        "mended": dict(judged.changes.most_common()),
        "languages": dict(Counter(v["language"] for v in verdicts).most_common()),
        "tokens": _tokens(judged),
        "cost": _costs(judged, rates),
        "funnel": _funnel(judged, num_kept, rates),
        "before_after": before_and_after(judged),
        **_statements(judged, witnesses),
    }


def with_judge(figures: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """The figures with those of the model that judged; what that took stands among the costs."""
    tokens = told["tokens"]["prompt"] + told["tokens"]["completion"]
    judging = {"tokens": tokens, "seconds": told["seconds"], "paid": told["cost"]}
    return figures | {"judge": told, "cost": figures["cost"] | {"judging": judging}}


def _funnel(
    judged: Judged, num_kept: int, rates: Mapping[str, float] | None
) -> list[dict[str, Any]]:
    left = len(judged.tokens)
    stages = []
    for name in (FILTERS, EXACT, NEAR, BALANCE):
        places = [place for place, r in judged.rejected.items() if r.stage == name]
        reasons = Counter(judged.rejected[place].reason for place in places)
        stage = FunnelStage(name, left, left - len(places), dict(sorted(reasons.items())))
        cost = Cost.of([judged.tokens[place] for place in places], rates)
        stages.append(stage.to_dict() | {"cost": cost.to_dict()})
        left = stage.num_kept
    assert left == num_kept, f"{len(judged.tokens)} in, {num_kept} kept, {len(judged.rejected)} out"
    return stages


def _tokens(judged: Judged) -> dict[str, Any]:
    dropped: Counter[str] = Counter()
    for place, rejection in judged.rejected.items():
        dropped[rejection.reason] += sum(judged.tokens[place])
    return {
        "in": sum(map(sum, judged.tokens.values())),
        "dropped": dropped.total(),
        "dropped_by_reason": dict(dropped.most_common()),
    }


def _costs(judged: Judged, rates: Mapping[str, float] | None) -> dict[str, Any]:
    by_reason: dict[str, list[Tokens]] = {}
    for place, rejection in judged.rejected.items():
        by_reason.setdefault(rejection.reason, []).append(judged.tokens[place])
    costs = {reason: Cost.of(spent, rates) for reason, spent in by_reason.items()}
    dearest = sorted(costs.items(), key=lambda item: (-item[1].tokens, item[0]))
    return {
        "in": Cost.of(judged.tokens.values(), rates).to_dict(),
        "dropped": Cost.of((t for spent in by_reason.values() for t in spent), rates).to_dict(),
        "dropped_by_reason": {reason: cost.to_dict() for reason, cost in dearest},
    }


def _statements(judged: Judged, witnesses: Sequence[Witness]) -> dict[str, Any]:
    told = {name: table for w in witnesses for name, table in w.figures().items()}
    if "contamination" in told:
        rows = judged.verdicts.items()
        found = [place for place, row in rows if "contaminated" in row["failed"]]
        kept = sum(place not in judged.rejected for place in found)
        told["contamination"] |= {
            "conversations": len(judged.verdicts), "found": len(found), "kept": kept,
        }  # fmt: skip
    if "memorisation" in told:
        told["memorisation"]["simulated"] = recall_figures(judged.recalls)
    return told
