"""A judge of whole conversations: a language model or a reward model, asked once about each.

    curate:
      judge: {kind: engine, engine: {kind: endpoint, url: http://localhost:8000/v1, model: big}}
      filters: {min_judge_score: 6}

It reads what the rules that need no model would keep (mended, personal data masked), before the
shards are sifted: its scores are evidence like any other, so that duplicates are sought among what
it let pass. Scores lie in `judged/scores.sqlite` of the run, where curating again finds them.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assistant.scoring import OVERLOADED, SCORED, Scored, ScoringSettings, score
from pipelines.filters import FilterSettings
from pipelines.judging import Judge
from pipelines.score_book import ScoreBook, content_of, read_scores
from usersim.conversation import Conversation, Message
from usersim.engine import Engine
from usersim.engines import EngineSpec, model_name
from usersim.errors import EngineDead, InputError, WorldError
from usersim.files import fingerprint, read_rows
from usersim.progress import Track, track
from usersim.simulate import all_or_first_error, open_engines

SURE = 20  # answers after which the share of unanswered questions says something
MOST_OVERLOADED = 0.5
AT_ONCE = 64  # conversations given to the rules, or to a reward model, together
_BUCKETS = 1 << 16


class JudgeSettings(ScoringSettings):
    """Who scores conversations, and how many of them."""

    kind: Literal["off", "engine", "reward"] = Field(
        "off", description="engine: a model that is asked, 1 to 10; reward: a model with one output"
    )
    engine: EngineSpec = Field(EngineSpec(), description="engine: any engine, as the speakers'")
    reward_model: str = Field(
        "", description="reward: folder or Hub name of a sequence classifier with one label"
    )
    share: float = Field(
        1.0, gt=0, le=1, description="of the conversations that are read, chosen by what they say"
    )
    concurrency: int = Field(32, ge=1, description="engine: conversations being read at once")

    @property
    def print(self) -> str:
        """The same for judges that would say the same."""
        if self.kind == "reward":
            return fingerprint(["reward", self.reward_model, _weights(self.reward_model)])
        who = {"kind", "model", "name", "adapter", "dtype"}
        engine = self.engine.model_dump(mode="json", include=who)
        return fingerprint([engine, _weights(self.engine.model), self.asks])

    @property
    def name(self) -> str:
        """The judge's name, for figures and cards."""
        return Path(self.reward_model).name if self.kind == "reward" else model_name(self.engine)

    def reads(self, content: str) -> bool:
        """Whether a content is in the share that is read, wherever it lies."""
        return int(content[:4], 16) < self.share * _BUCKETS


def _weights(name: str) -> list[tuple[str, int, int]]:
    """A local checkpoint's files of weights: those of the same name may hold another model."""
    files = sorted(Path(name).expanduser().glob("*.safetensors")) if name else []
    return [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]


class JudgeWitness:
    """The score that the judge gave, from its book."""

    tells = "judged"

    def __init__(self, settings: JudgeSettings, book: Path) -> None:
        self._judge, self._book = settings.print, book

    def testify(self, conversations: Sequence[Conversation]) -> list[Scored | None]:
        """The answer about each, None where it was not asked."""
        return read_scores(self._book, self._judge, [content_of(c.turns) for c in conversations])

    def figures(self) -> dict[str, Any]:
        """Nothing: whoever asked tells what it took."""
        return {}


@dataclass(slots=True)
class _Sitting:
    """One sitting: what was asked, what was there already, and what was said."""

    book: ScoreBook
    settings: JudgeSettings
    bar: Track
    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    scores: Counter[float] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)
    before: float = 0.0

    def missing(
        self, shards: Sequence[Path], filters: FilterSettings
    ) -> Iterator[tuple[str, tuple[Message, ...]]]:
        """Content and turns of what must be asked; counts what need not be."""
        for shard in shards:
            for turns in _as_kept(shard, filters):
                content = content_of(turns) if turns else ""
                if not turns:
                    self.counts["left_to_the_rules"] += 1
                elif not self.settings.reads(content):
                    self.counts["not_in_the_share"] += 1
                elif content in self.seen:
                    self.counts["said_before"] += 1
                else:
                    self.seen.add(content)
                    if known := self.book.of(content):
                        self.counts["remembered"] += 1
                        self._count(known)
                    else:
                        yield content, turns
                        continue
                self.bar.advance()

    def enter(self, answers: Sequence[tuple[str, Scored]]) -> None:
        """Write answers down and count them. Raises WorldError when most are overloaded."""
        spent = self.before + time.monotonic() - self.began
        self.book.add([pair for pair in answers if pair[1].is_final], spent)
        for _, scored in answers:
            self.counts["asked"] += 1
            self._count(scored)
            self.bar.advance()
        unanswered, asked = self.outcomes[OVERLOADED], self.counts["asked"]
        if asked >= SURE and unanswered > MOST_OVERLOADED * asked:
            raise WorldError(
                f"the judge {self.settings.name} left {unanswered} of {asked} questions unanswered:"
                f" every score is kept in {self.book.path}, the same command goes on"
            )

    def _count(self, scored: Scored) -> None:
        self.outcomes[scored.outcome] += 1
        for name in ("prompt", "cached", "completion"):
            self.tokens[name] += getattr(scored, f"{name}_tokens")
        if scored.score is not None:
            self.scores[scored.score] += 1
        self.bar.note(f"{self.counts['asked']} asked, {self.outcomes[SCORED]} scored")

    def figures(self) -> dict[str, Any]:
        """Counts that add up, the scores, and what the answers took whenever they were given."""
        unscored = {k: n for k, n in sorted(self.outcomes.items()) if k != SCORED}
        total = sum(self.scores.values())
        mean = sum(value * n for value, n in self.scores.items()) / total if total else None
        whole = self.settings.kind == "engine"
        price = self.settings.engine.price if whole else None
        paid = {name: self.tokens[name] for name in ("prompt", "cached", "completion")}
        return {
            "model": self.settings.name,
            "kind": self.settings.kind,
            "share": self.settings.share,
            "conversations": {k: self.counts[k] for k in _KINDS},
            "scored": self.outcomes[SCORED],
            "answered": sum(self.outcomes.values()) - self.outcomes[OVERLOADED],
            "unscored": unscored,
            "mean": None if mean is None else round(mean, 4),
            "scores": {f"{v:g}": n for v, n in sorted(self.scores.items())} if whole else {},
            "tokens": paid,
            "seconds": round(self.book.seconds, 2),
            "cost": {price.currency: round(price.of(**paid), 6)} if price else {},
        }


_KINDS = ("asked", "remembered", "said_before", "not_in_the_share", "left_to_the_rules")


def _as_kept(shard: Path, filters: FilterSettings) -> Iterator[tuple[Message, ...]]:
    """Turns as they would enter the corpus; none where a rule drops a row of the shard."""
    rules, rows = Judge(filters), iter(read_rows(shard))
    while some := list(islice(rows, AT_ONCE)):
        readable = [c for row in some if (c := _readable(row))]
        yield from [()] * (len(some) - len(readable))
        for judgement in rules.judge(readable):
            dropped = judgement.rejection(filters)
            yield () if dropped else tuple(judgement.conversation.turns)


def _readable(row: dict[str, Any]) -> Conversation | None:
    try:
        return Conversation.from_row(row)
    except InputError:
        return None


def ask_judge(
    settings: JudgeSettings,
    filters: FilterSettings,
    shards: Sequence[Path],
    path: Path,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Have every conversation of the shards scored that has no score in the book at `path`.

    Returns the judge's figures. The judge is opened when there is something to ask; `engine` is
    one that is open already. Raises WorldError when it dies or answers hardly anything (the same
    call goes on), InputError for a judge that cannot be.
    """
    total = sum(map(_num_rows, shards))
    with (
        ScoreBook(path, settings.print) as book,
        track(f"judge {settings.name}", total, "conversations") as bar,
    ):
        sitting = _Sitting(book, settings, bar, before=book.seconds)
        todo = sitting.missing(shards, filters)
        if settings.kind == "reward":
            _read_by_reward(sitting, todo)
        else:
            asyncio.run(_read_by_engine(sitting, todo, engine))
        return sitting.figures()


def _num_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


Todo = Iterator[tuple[str, tuple[Message, ...]]]


async def _read_by_engine(sitting: _Sitting, todo: Todo, engine: Engine | None) -> None:
    if (first := next(todo, None)) is None:
        return
    async with AsyncExitStack() as stack:
        spec = engine or sitting.settings.engine
        opened = (await open_engines(stack, {"assistant": spec}))["assistant"]
        sitting.began = time.monotonic()  # opening is not asking

        async def work(task: tuple[str, tuple[Message, ...]] | None) -> None:
            while task is not None:
                content, turns = task
                sitting.enter([(content, await score(opened, turns, sitting.settings))])
                task = next(todo, None)

        others = (next(todo, None) for _ in range(sitting.settings.concurrency - 1))
        try:
            await all_or_first_error([asyncio.create_task(work(t)) for t in (first, *others) if t])
        except EngineDead as error:
            raise WorldError(
                f"the judge died: {error}; every score is kept in {sitting.book.path}, the same"
                " command goes on"
            ) from error


def _read_by_reward(sitting: _Sitting, todo: Todo) -> None:
    from itertools import chain

    from assistant.reward import RewardModel

    if (first := next(todo, None)) is None:
        return
    model = RewardModel(sitting.settings.reward_model)
    sitting.began, rest = time.monotonic(), chain([first], todo)
    while batch := list(islice(rest, AT_ONCE)):
        found = model.scores([turns for _, turns in batch])
        sitting.enter(
            [
                (content, Scored(SCORED, value, prompt_tokens=tokens))
                for (content, _), (value, tokens) in zip(batch, found, strict=True)
            ]
        )
