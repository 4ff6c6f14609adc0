"""What a conversation must be to enter the corpus, and who gathers the evidence of it."""

from pathlib import Path

from pydantic import Field

from pipelines.balance import BalanceSettings
from pipelines.decontamination import DecontaminationSettings
from pipelines.dedup import DedupSettings
from pipelines.filters import FilterSettings
from pipelines.llm_judge import JudgeSettings, JudgeWitness
from pipelines.witnesses import (
    ContaminationWitness,
    LanguageWitness,
    MemoryWitness,
    QualityWitness,
    ScoreModels,
    ToxicityWitness,
    Witness,
)
from usersim.memorisation import MemorySettings
from usersim.settings import Settings


class CurateSettings(Settings):
    """What a conversation must be to enter the corpus."""

    filters: FilterSettings = Field(
        default_factory=FilterSettings, description="thresholds of the rules"
    )
    decontamination: DecontaminationSettings = Field(
        default_factory=DecontaminationSettings, description="benchmarks it may not hold"
    )
    models: ScoreModels = Field(
        default_factory=ScoreModels, description="quality and toxicity models"
    )
    judge: JudgeSettings = Field(
        default_factory=JudgeSettings, description="a model that scores whole conversations"
    )
    memory: MemorySettings = Field(
        default_factory=MemorySettings, description="what counts as repeating a training person"
    )
    dedup: DedupSettings = Field(
        default_factory=DedupSettings, description="what counts as a duplicate"
    )
    balance: BalanceSettings = Field(
        default_factory=BalanceSettings, description="caps, and the shape of rounds"
    )
    marks: bool = Field(
        True, description="drop what a person marked bad in the dashboard (the run's marks.json)"
    )


def witnesses_of(
    settings: CurateSettings, people: Path | None = None, scores: Path | None = None
) -> list[Witness]:
    """Who gathers the evidence that a recipe asks for; `people` is what `ingest` wrote, if it did.

    `scores` is the book that the judge's answers are in, where it was asked.
    Raises InputError and WorldError as `benchmark` does.
    """
    witnesses: list[Witness] = [LanguageWitness()]
    if settings.decontamination.benchmarks:
        witnesses.append(ContaminationWitness(settings.decontamination))
    if settings.models.quality:
        witnesses.append(QualityWitness(Path(settings.models.quality)))
    if settings.models.toxicity:
        label = settings.models.toxicity_label
        witnesses.append(ToxicityWitness(Path(settings.models.toxicity), label))
    if people is not None and (people / "train.parquet").is_file():
        witnesses.append(MemoryWitness(people, settings.memory))
    if scores is not None:
        witnesses.append(JudgeWitness(settings.judge, scores))
    return witnesses
