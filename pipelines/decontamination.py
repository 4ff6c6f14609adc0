"""Benchmark questions among conversations: verbatim, or edited in up to a fifth of their words.

A corpus that holds the questions of a benchmark makes every score on it meaningless. Each turn of
both speakers is compared with each question, in two ways:

- a run of 8 to 13 consecutive words of the question (13: Brown et al. 2020, appendix C), which
  finds pieces of long questions;
- the whole question, anywhere in the turn, with at most a fifth of its words replaced, inserted or
  deleted. Candidates are turns that hold a tenth of its three-word runs (exact containment, which
  MinHash would estimate); each is verified by the true edit distance.

Short questions say little: one of fewer than `min_words` words is counted and not looked for, and
most of a question's words that are not glue ("what is the ... of") must be in the turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from usersim.overlap import RunIndex, fewest_edits
from usersim.settings import Settings
from usersim.shingling import words

CANDIDATE_WORDS = 3
CANDIDATE_SHARE = 0.1
"""With a fifth of n words edited at least (0.4 n - 2) / (n - 2) of the runs of three stay whole: a
tenth from seven words on."""


class DecontaminationSettings(Settings):
    """Which benchmarks the corpus may not hold, and what counts as holding."""

    benchmarks: tuple[str, ...] = Field(
        (),
        description="names (mt-bench, vicuna-bench, alpaca-eval, arena-hard), hub:OWNER/NAME/FILE, "
        "or files (JSON, JSONL, Parquet, CSV, text)",
    )
    ngram: int = Field(13, ge=8, le=13, description="consecutive words that give a question away")
    max_edit_share: float = Field(
        0.2, ge=0, lt=0.5, description="share of a question's words that may have been edited"
    )
    min_words: int = Field(6, ge=3, description="shorter questions are not looked for")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Questions under one name."""

    name: str
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A question that a text holds."""

    benchmark: str
    question: int
    """Its number in the benchmark, from 0."""
    edits: int | None
    """Words edited, or None: only a piece of it is there, verbatim."""

    def __str__(self) -> str:
        how = "a piece of it" if self.edits is None else f"{self.edits} words edited"
        return f"{self.benchmark}, question {self.question}: {how}"


class Contamination:
    """Finds benchmark questions in texts. Holds the index; asking changes nothing."""

    def __init__(self, benchmarks: Sequence[Benchmark], settings: DecontaminationSettings) -> None:
        self.settings = settings
        self.benchmarks = tuple(benchmarks)
        named = [(b.name, i, words(q)) for b in benchmarks for i, q in enumerate(b.questions)]
        self._asked = [q for q in named if len(q[2]) >= settings.min_words]
        texts = [" ".join(asked) for _, _, asked in self._asked]
        self._runs = RunIndex(texts, CANDIDATE_WORDS)
        long = [i for i, q in enumerate(self._asked) if len(q[2]) >= settings.ngram]
        self._long = long
        self._pieces = RunIndex([texts[i] for i in long], settings.ngram)

    def statement(self) -> dict[str, Any]:
        """What was looked for, for metrics.json and the card."""
        too_short = (
            sum(len(words(q)) < self.settings.min_words for q in b.questions)
            for b in self.benchmarks  # two files may have one name
        )
        return {
            "benchmarks": [
                {"name": b.name, "questions": len(b.questions), "too_short": short}
                for b, short in zip(self.benchmarks, too_short, strict=True)
            ],
            "ngram": self.settings.ngram,
            "max_edit_share": self.settings.max_edit_share,
        }

    def find(self, texts: Sequence[str]) -> list[Hit | None]:
        """For each text the first question it holds whole, else the first piece, else None."""
        if not self._asked or not texts:
            return [None] * len(texts)
        candidates = self._runs.shared(texts)
        pieces = self._pieces.shared(texts) if self._long else [{} for _ in texts]
        return [
            self._whole(text, shared) or self._piece(piece)
            for text, shared, piece in zip(texts, candidates, pieces, strict=True)
        ]

    def _whole(self, text: str, shared: dict[int, int]) -> Hit | None:
        sizes = self._runs.sizes
        likely = [q for q, n in shared.items() if n >= CANDIDATE_SHARE * sizes[q]]
        said = words(text) if likely else []
        for question in sorted(likely):
            name, number, asked = self._asked[question]
            allowed = int(self.settings.max_edit_share * len(asked))
            edits = fewest_edits(asked, said)
            if edits <= allowed and _says_something(asked, said):
                return Hit(name, number, edits)
        return None

    def _piece(self, shared: dict[int, int]) -> Hit | None:
        if not shared:
            return None
        name, number, _ = self._asked[self._long[min(shared)]]
        return Hit(name, number, None)


def _says_something(asked: Sequence[str], said: Sequence[str]) -> bool:
    """Whether most of the question's words that are not glue are there as well."""
    telling = {word for word in asked if word not in GLUE}
    return not telling or len(telling.intersection(said)) > 0.5 * len(telling)


# The words that the largest number of people use towards a chatbot, whatever they want: the first
# 120 by people among 7,960 of the embedded corpus, without digits (`benchmarks/decontamination.py
# --glue` counts them).
_GLUE = """
the a to and in of for is you that i with can this it what on how are an be as me from have write
do s about or if not by more use make will all but at one using give like my which please there want
would should so t some we each your create when also any has time need code into they other their
new only where now these get them up first could does no example then help list data provide add
following who was out work based name same way just between why different two used explain above
include know than after well good information am m don most here our take its show set continue
number such let best through start think many tell
"""
GLUE = frozenset(_GLUE.split())
