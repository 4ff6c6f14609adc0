"""The acts of an interaction, known before anybody speaks: who, speaking or thinking, how long."""

from dataclasses import dataclass
from random import Random
from typing import Literal

from pydantic import Field, model_validator

from usersim.engines import EngineSpec
from usersim.personas.script import Action
from usersim.plan import SamplingSettings
from usersim.settings import Settings


class InteractSettings(Settings):
    """How interactions are made."""

    engine: EngineSpec = Field(EngineSpec(), description="who writes every party's lines")
    parties: int = Field(2, ge=2, le=6, description="people in a scene, the character included")
    utterances: int = Field(10, ge=2, description="utterances of an interaction")
    spread: int = Field(2, ge=0, description="so many more or fewer")
    thinkers: Literal["main", "all", "none"] = Field("main", description="who may think")
    thought_share: float = Field(0.3, ge=0, le=0.5, description="thoughts among all utterances")
    least_words: int = Field(3, ge=1, description="words below which an utterance is drawn again")
    most_words: int = Field(60, ge=2, description="words above which it is")
    sampling: SamplingSettings = Field(
        SamplingSettings(max_tokens=80, temperature=0.9), description="how an utterance is drawn"
    )
    attempts: int = Field(5, ge=1, description="draws of an utterance before giving up")
    concurrency: int = Field(64, ge=1, description="interactions under way at once")
    seed: int = Field(7, ge=0, description="the same seed plans the same acts")

    @model_validator(mode="after")
    def _lengths_in_order(self) -> "InteractSettings":
        if self.least_words > self.most_words:
            raise ValueError("least_words is above most_words")
        if self.utterances - self.spread < 2:
            raise ValueError("utterances - spread must leave two")
        return self


@dataclass(frozen=True, slots=True)
class Act:
    """One utterance to come."""

    speaker: str
    action: Action


def acts_of(settings: InteractSettings, speakers: tuple[str, ...], seed: str) -> list[Act]:
    """Acts of the target length: nobody does the same twice in a row, the last one is speech.

    A thought is followed by words of who had it, so the other party waits for words only.
    """
    generator = Random(seed)
    length = settings.utterances + generator.randint(-settings.spread, settings.spread)
    thinkers = thinkers_of(settings, speakers)
    acts: list[Act] = []
    speaker = generator.choice(speakers[:2])
    while len(acts) < length:
        room = length - len(acts) >= 2
        # A thought comes before one in so many speeches as makes the share among all utterances.
        chance = settings.thought_share / (1 - settings.thought_share)
        eager = chance * len(speakers) / max(len(thinkers), 1)
        if room and speaker in thinkers and generator.random() < eager:
            acts.append(Act(speaker, "thinking"))
        acts.append(Act(speaker, "speaking"))
        speaker = _next(speaker, speakers, generator)
    return acts


def thinkers_of(settings: InteractSettings, speakers: tuple[str, ...]) -> tuple[str, ...]:
    """Who may think."""
    return {"main": speakers[:1], "all": speakers, "none": ()}[settings.thinkers]


def _next(speaker: str, speakers: tuple[str, ...], generator: Random) -> str:
    """Somebody else; the main character answers whoever else spoke in two of three cases."""
    if speaker != speakers[0] and generator.random() < 2 / 3:
        return speakers[0]
    return generator.choice([name for name in speakers if name != speaker])
