"""What curation found, counted: the funnel with its cost, and every finding, for metrics.json.

Rows are counted as they go by, so that what is held does not grow with them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.dedup import EXACT_REASONS, Duplicate
from pipelines.judging import FILTERS
from pipelines.portrait import MASKED, Portrait
from pipelines.witnesses import Witness
from usersim.funnel import FunnelStage
from usersim.memorisation import MemorySettings, RecallCount

SPEAKERS = ("user", "assistant")
EXACT, NEAR, BALANCE = "exact duplicates", "near-duplicates", "balance"


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a conversation goes."""

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


@dataclass(slots=True)
class Spent:
    """Conversations, and the tokens that their turns took by speaker."""

    conversations: int = 0
    user: int = 0
    assistant: int = 0

    def __iadd__(self, other: "Spent") -> "Spent":
        self.conversations += other.conversations
        self.user += other.user
        self.assistant += other.assistant
        return self

    @property
    def tokens(self) -> int:
        """Of both speakers."""
        return self.user + self.assistant

    def cost(self, rates: Mapping[str, float] | None) -> dict[str, Any]:
        """`tokens`, and the `seconds` of engine time that they took where the pace is known.

        `rates` are tokens a second by speaker.
        """
        totals = (self.user, self.assistant)
        paces = [(rates or {}).get(speaker) for speaker in SPEAKERS]
        known = all(pace or not total for total, pace in zip(totals, paces, strict=True))
        pairs = zip(totals, paces, strict=True)
        seconds = sum(total / pace for total, pace in pairs if pace) if rates and known else None
        return {"tokens": self.tokens, "seconds": None if seconds is None else round(seconds, 2)}


def together(many: Sequence[Spent]) -> Spent:
    """The sum."""
    total = Spent()
    for each in many:
        total += each
    return total


@dataclass(slots=True)
class Tally:
    """What was counted of all rows."""

    memory: MemorySettings
    everything: Spent = field(default_factory=Spent)
    dropped: dict[tuple[str, str], Spent] = field(default_factory=dict)
    """By stage and reason."""
    mended: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    contaminated: Counter[str] = field(default_factory=Counter)
    recalled: RecallCount = field(default_factory=RecallCount)
    before: Portrait = field(default_factory=lambda: Portrait((MASKED, "personal")))
    after: Portrait = field(default_factory=Portrait)

    def add(self, row: Mapping[str, Any], drop: Drop | None) -> None:
        """Count a row of `pipelines.judge_shards.work_schema`, and why it goes, if it does."""
        spent = Spent(1, row["user_tokens"], row["assistant_tokens"])
        self.everything += spent
        if drop:
            self.dropped.setdefault((drop.stage, drop.reason), Spent()).__iadd__(spent)
        if row["is_conversation"]:
            self._verdict(dict(row), kept=drop is None)

    def _verdict(self, row: dict[str, Any], *, kept: bool) -> None:
        self.findings.update(row["failed"])
        self.tags.update(row["tags"])
        self.languages[row["language"]] += 1
        if "contaminated" in row["failed"]:
            self.contaminated.update(["found", *(["kept"] if kept else [])])
        if (words := row["verbatim_words"]) is not None:
            too_long = words > self.memory.max_verbatim_words
            self.recalled.add(words, opener=row["opener_of"], too_long=too_long)
        self.before.add(row)
        if kept:
            self.after.add(row)

    def by_reason(self) -> dict[str, Spent]:
        """What was dropped, the most frequent reason first."""
        found: dict[str, Spent] = {}
        for (_, reason), spent in self.dropped.items():
            found.setdefault(reason, Spent()).__iadd__(spent)
        return dict(sorted(found.items(), key=lambda item: -item[1].conversations))


def figures_of(
    tally: Tally,
    num_kept: int,
    duplicates: Mapping[str, float | None],
    witnesses: Sequence[Witness],
    rates: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The stage's figures; `duplicates` are the shares `before` and `after`.

    `in`, `kept`, `kept_share`, `reasons`; `findings`: conversations that each rule has something
    against, deciding or not; `tags`; `mended`: places changed in what the filters kept, by kind;
    `languages`; `tokens` and `cost`: what was spent on everything, and on what was dropped, by
    reason (seconds are tokens over the simulation's rates: the engines' time, not the clock's);
    `funnel`, each stage with its cost; `contamination` and `memorisation`, where they were asked.
    """
    num_in = tally.everything.conversations
    return {
        "in": num_in,
        "kept": num_kept,
        "kept_share": round(num_kept / num_in, 4) if num_in else 0.0,
        "reasons": {name: spent.conversations for name, spent in tally.by_reason().items()},
        "findings": dict(tally.findings.most_common()),
        "tags": dict(tally.tags.most_common()),
        "mended": dict(tally.mended.most_common()),
        "languages": dict(tally.languages.most_common()),
        "tokens": _tokens(tally),
        "cost": _costs(tally, rates),
        "funnel": _funnel(tally, num_kept, rates),
        "before_after": {
            side: getattr(tally, side).to_dict(duplicates[side]) for side in ("before", "after")
        },
        **_statements(tally, witnesses),
    }


def with_judge(figures: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """The figures with those of the model that judged; what that took stands among the costs."""
    tokens = told["tokens"]["prompt"] + told["tokens"]["completion"]
    judging = {"tokens": tokens, "seconds": told["seconds"], "paid": told["cost"]}
    return figures | {"judge": told, "cost": figures["cost"] | {"judging": judging}}


def _funnel(tally: Tally, num_kept: int, rates: Mapping[str, float] | None) -> list[dict[str, Any]]:
    left, stages = tally.everything.conversations, []
    for name in (FILTERS, EXACT, NEAR, BALANCE):
        spent = {reason: s for (stage, reason), s in sorted(tally.dropped.items()) if stage == name}
        total = together(list(spent.values()))
        reasons = {reason: each.conversations for reason, each in spent.items()}
        stage = FunnelStage(name, left, left - total.conversations, reasons)
        stages.append(stage.to_dict() | {"cost": total.cost(rates)})
        left = stage.num_kept
    assert left == num_kept, f"{tally.everything.conversations} in, {num_kept} kept, {left} left"
    return stages


def _tokens(tally: Tally) -> dict[str, Any]:
    dropped = Counter({reason: spent.tokens for reason, spent in tally.by_reason().items()})
    return {
        "in": tally.everything.tokens,
        "dropped": dropped.total(),
        "dropped_by_reason": dict(dropped.most_common()),
    }


def _costs(tally: Tally, rates: Mapping[str, float] | None) -> dict[str, Any]:
    by_reason = tally.by_reason()
    dearest = sorted(by_reason.items(), key=lambda item: (-item[1].tokens, item[0]))
    return {
        "in": tally.everything.cost(rates),
        "dropped": together(list(by_reason.values())).cost(rates),
        "dropped_by_reason": {reason: spent.cost(rates) for reason, spent in dearest},
    }


def _statements(tally: Tally, witnesses: Sequence[Witness]) -> dict[str, Any]:
    told = {name: table for w in witnesses for name, table in w.figures().items()}
    if "contamination" in told:
        found = {name: tally.contaminated[name] for name in ("found", "kept")}
        told["contamination"] |= {"conversations": tally.before.conversations, **found}
    if "memorisation" in told:
        told["memorisation"]["simulated"] = tally.recalled.figures()
    return told
