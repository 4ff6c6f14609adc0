"""Who gathers evidence of conversations: language, benchmark questions, training people's words.

A witness is loaded once and asked about batches; `pipelines.evidence` says what its answers mean.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from pydantic import Field

from pipelines.benchmark_sets import benchmark
from pipelines.decontamination import Contamination, DecontaminationSettings
from usersim.conversation import Conversation
from usersim.files import read_conversations
from usersim.language import Language, LanguageId
from usersim.memorisation import Memory, MemorySettings, Recall, recall_figures
from usersim.settings import Settings
from usersim.text_scorer import TextScorer


class Witness(Protocol):
    """Tells one field of Evidence."""

    @property
    def tells(self) -> str:
        """The field's name."""
        ...

    def testify(self, conversations: Sequence[Conversation]) -> Sequence[Any]:
        """The field's value for each conversation, in order."""
        ...

    def figures(self) -> dict[str, Any]:
        """What to say in metrics.json of how it was looked: tables by name."""
        ...


class LanguageWitness:
    """The language of the user's turns, taken together."""

    tells = "language"

    def __init__(self) -> None:
        self._identify = LanguageId()

    def testify(self, conversations: Sequence[Conversation]) -> list[Language]:
        """A language for each conversation."""
        return self._identify.detect(["\n".join(c.user_turns) for c in conversations])

    def figures(self) -> dict[str, Any]:
        """Nothing: the verdicts hold each language."""
        return {}


class ContaminationWitness:
    """The first benchmark question that a conversation holds, in a turn of either speaker."""

    tells = "contaminated"

    def __init__(self, settings: DecontaminationSettings) -> None:
        self.contamination = Contamination(list(map(benchmark, settings.benchmarks)), settings)

    def testify(self, conversations: Sequence[Conversation]) -> list[str | None]:
        """Which question, or None."""
        turns = [m.content for c in conversations for m in c.turns]
        hits = iter(self.contamination.find(turns))
        found = [[hit for hit in (next(hits) for _ in c.turns) if hit] for c in conversations]
        return [str(held[0]) if held else None for held in found]

    def figures(self) -> dict[str, Any]:
        """The statement of what the corpus was compared with, and how."""
        return {"contamination": self.contamination.statement()}


class ScoreModels(Settings):
    """Models that score conversations; empty: nobody is asked."""

    quality: str = Field("", description="file of `realchat train-quality`, on the user's turns")
    toxicity: str = Field("", description="a fastText model's file, on every turn")
    toxicity_label: str = Field("toxic", description="that model's label for what must not be")


class QualityWitness:
    """How much like people's the user's turns are, by a quality model."""

    tells = "quality"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scorer = TextScorer(path)

    def testify(self, conversations: Sequence[Conversation]) -> list[float]:
        """The mean score of the user's turns."""
        return [fmean(self._scorer.scores(c.user_turns)) for c in conversations]

    def figures(self) -> dict[str, Any]:
        """Which model it was."""
        return {"quality_model": self._path.name}


class ToxicityWitness:
    """How bad the worst turn is, by a model that the user names."""

    tells = "toxicity"

    def __init__(self, path: Path, label: str) -> None:
        self._path = path
        self._scorer = TextScorer(path, label)

    def testify(self, conversations: Sequence[Conversation]) -> list[float]:
        """The highest score of a turn."""
        return [max(self._scorer.scores([m.content for m in c.turns])) for c in conversations]

    def figures(self) -> dict[str, Any]:
        """Which model it was."""
        return {"toxicity_model": self._path.name}


class MemoryWitness:
    """What the user repeats of the people from whom the simulator learned; `people` is a folder."""

    tells = "recall"

    def __init__(self, people: Path, settings: MemorySettings) -> None:
        self.memory = Memory(read_conversations(people / "train.parquet"), settings)
        self._held_out = people / "test.parquet"

    def testify(self, conversations: Sequence[Conversation]) -> list[Recall]:
        """What each repeats."""
        return self.memory.recalls(conversations)

    def figures(self) -> dict[str, Any]:
        """What held-out people repeat of training people, beside which simulated ones stand."""
        held_out = read_conversations(self._held_out) if self._held_out.is_file() else []
        settings = self.memory.settings.model_dump()
        people = recall_figures(self.memory.recalls(held_out))
        return {"memorisation": {"settings": settings, "held_out_people": people}}
