"""The plan of a simulation: what is known about each conversation before anybody speaks.

Ids, seeds and limits are stable hashes of (recipe fingerprint, run seed, index), so that they are
the same for any number of workers, any order and after any crash. We promise the same plan, not
the same text: what an engine says may depend on what else is in its batch.
"""

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from usersim.briefs import FREE, Brief, Given, briefs_of_people, read_briefs
from usersim.engine import Sampling
from usersim.leaving import EndBias
from usersim.personas.cast import CastSettings, cast_of
from usersim.settings import Settings

ATTEMPTS_AT_MOST = 1_000_000  # at one turn: more than any recipe would ask for
FORBID_END = -100.0
"""A bias that keeps the end-of-conversation token from being drawn."""


class SamplingSettings(Settings):
    """How one speaker's turns are drawn."""

    max_tokens: int = Field(128, ge=1, description="tokens after which a turn is cut")
    temperature: float = Field(1.0, ge=0.0, le=2.0, description="0 takes the likeliest token")
    top_p: float = Field(0.9, gt=0.0, le=1.0, description="smallest nucleus of this probability")
    free_end: bool = Field(
        False, description="draw the end of a turn from its own probability, outside the nucleus"
    )
    repetition_penalty: float = Field(1.0, gt=0.0, description="above 1 repeats less")

    def drawn(self, seed: int, end_bias: float = 0.0) -> Sampling:
        """The sampling of one turn."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            seed=seed,
            free_end=self.free_end,
            end_bias=end_bias,
        )


class SimulateSettings(Settings):
    """Stage `simulate`: UserGPT and an assistant talk."""

    conversations: int = Field(240, ge=1, description="conversations to hold")
    max_rounds: int = Field(4, ge=1, description="rounds after which a conversation is stopped")
    min_rounds: int = Field(1, ge=1, description="rounds before which the user may not leave")
    concurrency: int = Field(96, ge=1, description="conversations in flight at once")
    shard_size: int = Field(250, ge=1, description="conversations in one data file")
    extended_at: tuple[int, ...] = Field(
        (), description="sizes that a run had before it grew, each ends a data file; leave it alone"
    )
    user_sampling: SamplingSettings = Field(
        SamplingSettings(max_tokens=192, free_end=True),
        description="how the user's turns are drawn",
    )
    assistant_sampling: SamplingSettings = Field(
        SamplingSettings(max_tokens=192, temperature=0.7), description="how answers are drawn"
    )
    candidates: int = Field(
        1,
        ge=1,
        le=64,
        description="user turns drawn at once, of which one is taken by how likely a person typed"
        " it (stage learn_likeness); 1: a turn is taken as it is drawn",
    )
    likeness: str = Field("", description="file of a learned likeness; empty: the run's own")
    end_bias: EndBias = Field(
        0.0,
        description="added to the logit of leaving: above 0 shorter, below 0 longer talks; a list:"
        " after one round, after two, ..., the last one also after more",
    )
    assistant_system: str = Field(
        # With it a 135M assistant is cut at 192 tokens in 23 % of its answers, without in 56 %.
        "You are a helpful AI assistant. Answer in one or two short sentences.",
        description="system message of the assistant, part of the rows made; empty: none",
    )
    given: tuple[Given, ...] = Field(
        (), description="what UserGPT is told of a real training person it plays; empty: it is free"
    )
    briefs: str = Field(
        "", description="file of your own briefs (opener, intent, profile, ...), JSONL or Parquet"
    )
    intent_words: int = Field(6, ge=1, description="words of an intent read off a person's turns")
    cast: CastSettings = Field(
        CastSettings(), description="role-play: the assistant plays characters in scenes"
    )
    token_budget: int = Field(
        2048, ge=64, description="tokens of a conversation; no round begins that might not fit"
    )
    opener_attempts: int = Field(8, ge=1, description="draws of an opener before giving up")
    turn_attempts: int = Field(3, ge=1, description="draws of any other turn before giving up")
    opener_threshold: float = Field(
        0.7, gt=0.0, le=1.0, description="Jaccard similarity at which openers are near-duplicates"
    )
    opener_words: int = Field(3, ge=1, description="words in a shingle of an opener")
    refusals: int = Field(2, ge=1, description="refusals in a row after which a talk is stopped")
    transient_retries: int = Field(3, ge=0, description="tries more after a transient error")
    retry_pause_s: float = Field(1.0, ge=0.0, description="first pause after one; then doubled")
    max_error_rate: float = Field(
        0.2, gt=0.0, le=1.0, description="share of conversations failed at which the run stops"
    )
    source: str = Field("realchat", description="source column of the rows made")
    license: str = Field("", description="license column of the rows made")

    @property
    def chooses(self) -> bool:
        """Whether user turns are chosen among candidates: not where users are told who they are.

        What somebody was told to be, the classifier would take for unlike people. Of a file's
        people nothing is known here; those whom it tells nothing are chosen for.
        """
        cast = not self.cast.file and self.cast.personas > 1 and self.cast.user == "persona"
        return self.candidates > 1 and not self.given and not cast

    @model_validator(mode="after")
    def _rounds_in_order(self) -> "SimulateSettings":
        if self.min_rounds > self.max_rounds:
            raise ValueError(
                f"min_rounds ({self.min_rounds}) is above max_rounds ({self.max_rounds})"
            )
        return self

    @model_validator(mode="after")
    def _one_origin_of_briefs(self) -> "SimulateSettings":
        if bool(self.briefs) + bool(self.given) + self.cast.any > 1:
            raise ValueError(
                "briefs, given and cast exclude each other: name a file, real people, or a cast"
            )
        return self

    @model_validator(mode="after")
    def _sizes_grow(self) -> "SimulateSettings":
        sizes = (0, *self.extended_at, self.conversations)
        if any(before >= after for before, after in pairwise(sizes)):
            raise ValueError(f"extended_at and conversations must grow, not {sizes[1:]}")
        return self

    def grown(self, conversations: int) -> "SimulateSettings":
        """The settings of the same run with more conversations; the old ones keep their files.

        Raises ValueError when there would not be more of them.
        """
        sizes = (*self.extended_at, self.conversations)
        table = self.model_dump() | {"extended_at": sizes, "conversations": conversations}
        return SimulateSettings.model_validate(table)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known about one conversation beforehand."""

    index: int
    id: str
    seed: int
    max_rounds: int
    system: str
    """The assistant's."""
    brief: Brief = FREE

    def turn_seed(self, position: int, attempt: int, retries: int = 0) -> int:
        """The sampling seed of one attempt at one turn, below 2**31; those of a retry are others.

        `retries` is how often the whole conversation was put aside.
        """
        return _hash(self.id, position, attempt + retries * ATTEMPTS_AT_MOST) >> 33


@dataclass(frozen=True, slots=True)
class Shard:
    """Conversations `first` to `first + size - 1`: one journal while they run, one file after."""

    number: int
    first: int
    size: int

    def journal(self, run: Path) -> Path:
        """Where its turns are written as they are finished."""
        return run / "journal" / f"part-{self.number:05d}.sqlite"

    def data(self, run: Path) -> Path:
        """The data file; it is there only when the shard is whole."""
        return run / "conversations" / f"part-{self.number:05d}.parquet"


@dataclass(frozen=True, slots=True)
class Agenda:
    """The plan of the whole run."""

    settings: SimulateSettings
    recipe: str
    """What the ids are made of: a fingerprint that knows nothing of how many or how fast."""
    seed: int
    briefs: tuple[Brief, ...] = (FREE,)

    @classmethod
    def of(cls, settings: SimulateSettings, recipe: str, seed: int, run: Path) -> Self:
        """The plan, with its briefs read. Raises InputError when they cannot be."""
        briefs: tuple[Brief, ...] = (FREE,)
        if settings.briefs:
            briefs = read_briefs(Path(settings.briefs))
        elif settings.given:
            people = run / "people" / "train.parquet"
            briefs = briefs_of_people(people, settings.given, settings.intent_words, seed)
        elif settings.cast.any:
            briefs = cast_of(settings.cast, seed).briefs()
        return cls(settings, recipe, seed, briefs)

    def plan(self, index: int) -> Plan:
        """The plan of conversation `index`."""
        number = _hash(self.recipe, self.seed, index)
        brief = self.briefs[index % len(self.briefs)]
        return Plan(
            index,
            id=f"{number:016x}",
            seed=number >> 1,  # 63 bits: Parquet's integers are signed
            max_rounds=self.settings.max_rounds,
            system=brief.assistant_system or self.settings.assistant_system,
            brief=brief,
        )

    def owner(self, shard: Shard) -> dict[str, str | int]:
        """What a shard's journal is signed with: another run's is refused."""
        size = {"first": shard.first, "size": shard.size}
        return {"recipe": self.recipe, "seed": self.seed, **size}

    def shards(self) -> list[Shard]:
        """All shards, in order; the last may be smaller, and so may those at which the run grew."""
        settings = self.settings
        sizes = (0, *settings.extended_at, settings.conversations)
        starts = [
            first
            for low, high in pairwise(sizes)
            for first in range(low, high, settings.shard_size)
        ]
        bounds = pairwise((*starts, settings.conversations))
        return [Shard(n, first, end - first) for n, (first, end) in enumerate(bounds)]


def _hash(*parts: str | int) -> int:
    """64 bits that are the same on every machine and in every process."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
