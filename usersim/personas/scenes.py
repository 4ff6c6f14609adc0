"""Scenes: where somebody is, what is going on, what it is about and how they feel.

Types, topics and emotions come from closed vocabularies by quota; every persona gets exactly as
many scenes as asked for.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Self

from pydantic import Field, ValidationError

from usersim.errors import InputError
from usersim.files import write_text
from usersim.personas import tables
from usersim.personas.schema import Line, Persona, read_tables
from usersim.personas.vocabulary import EMOTIONS, SCENE_TYPES, TOPICS, Vocabulary, deck
from usersim.settings import Settings


class SceneSettings(Settings):
    """How many scenes, and of what kinds."""

    each: int = Field(20, ge=1, description="scenes of every persona")
    seed: int = Field(7, ge=0, description="the same seed makes the same scenes")
    types: dict[str, float] = Field({}, description="weights over scene types; empty: equal")
    topics: dict[str, float] = Field({}, description="weights over topics; empty: equal")
    emotions: dict[str, float] = Field({}, description="weights over emotions; empty: equal")
    more_topics: tuple[str, ...] = Field((), description="topics of your own, beside the 18")
    more_emotions: tuple[str, ...] = Field((), description="emotions of your own, beside the 16")

    def vocabularies(self) -> dict[str, Vocabulary]:
        """What scenes may be labelled with, by field. Raises InputError for a label twice."""
        return {
            "type": Vocabulary("scene types", SCENE_TYPES),
            "topic": Vocabulary("topics", TOPICS, self.more_topics),
            "emotion": Vocabulary("emotions", EMOTIONS, self.more_emotions),
        }

    def quotas(self) -> dict[str, dict[str, float]]:
        """The weights of every label. Raises InputError for one that is not on its list."""
        given = {"type": self.types, "topic": self.topics, "emotion": self.emotions}
        return {name: words.weights(given[name]) for name, words in self.vocabularies().items()}


class Scene(Settings):
    """One scene of one persona."""

    id: Line = Field(description="the persona's id and the scene's number")
    persona_id: Line = Field(description="whose scene it is")
    type: Line = Field(description="chat, debate, discussion or speech")
    location: Line = Field(description="where it happens")
    background: Line = Field(description="what is going on")
    topic: Line = Field(description="what it is about")
    emotion: Line = Field(description="how the persona feels")

    @classmethod
    def from_row(cls, row: Mapping[str, Any], settings: SceneSettings) -> Self:
        """The scene of a row. Raises InputError for what is no scene or has an off-list label."""
        try:
            scene = cls.model_validate(row)
        except ValidationError as error:
            problems = "; ".join(f"{p['loc'][0]}: {p['msg']}" for p in error.errors())
            raise InputError(f"this is not a scene: {problems}") from error
        for name, words in settings.vocabularies().items():
            words.check(getattr(scene, name))
        return scene


def make_scenes(personas: Sequence[Persona], settings: SceneSettings) -> list[Scene]:
    """Exactly `each` scenes a persona: first one of everybody, then a second of everybody, ...

    A prefix of the list is thus a fair sample of the people. Raises InputError for a bad quota.
    """
    number = settings.each * len(personas)
    generator = Random(f"{settings.seed}:scenes")
    decks = {name: deck(quota, number, generator) for name, quota in settings.quotas().items()}
    scenes = []
    for round_number in range(settings.each):
        for place, persona in enumerate(personas):
            i = round_number * len(personas) + place
            labels = {name: cards[i] for name, cards in decks.items()}
            scenes.append(_scene(persona, round_number, labels, settings.seed))
    return scenes


def _scene(persona: Persona, number: int, labels: dict[str, str], seed: int) -> Scene:
    generator = Random(f"{seed}:{persona.id}:{number}")
    found = tables.places()
    template = generator.choice(found.backgrounds[labels["type"]])
    background = template.format(
        name=persona.first_name,
        a_career=with_article(persona.career),
        aspiration=persona.aspiration,
        hobby=generator.choice(persona.personal.hobbies),
    )
    return Scene(
        id=f"{persona.id}-s{number:03d}",
        persona_id=persona.id,
        location=generator.choice(found.places[labels["type"]]),
        background=background[:200],
        **labels,
    )


def with_article(career: str) -> str:
    """The career after its article, by its first letter: right for the tables' careers."""
    return f"{'an' if career[:1].lower() in 'aeio' else 'a'} {career}"


def scene_marginals(scenes: Sequence[Scene]) -> dict[str, dict[str, int]]:
    """How many scenes have each type, topic and emotion."""
    return {
        name: dict(sorted(Counter(getattr(scene, name) for scene in scenes).items()))
        for name in ("type", "topic", "emotion")
    }


def write_scenes(path: Path, scenes: Iterable[Scene]) -> None:
    """Write scenes, one JSON object a line, whole or not at all."""
    lines = (json.dumps(s.model_dump(mode="json"), ensure_ascii=False) for s in scenes)
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_scenes(path: Path, settings: SceneSettings | None = None) -> list[Scene]:
    """The scenes of a file. Raises InputError where one is not a scene."""
    return [Scene.from_row(row, settings or SceneSettings()) for row in read_tables(path)]


def settings_for(path: Path) -> SceneSettings:
    """Settings that know the labels which the makers of a file of scenes added to the lists."""
    rows = read_tables(path)
    return SceneSettings(
        more_topics=tuple(sorted({str(r.get("topic")) for r in rows} - set(TOPICS))),
        more_emotions=tuple(sorted({str(r.get("emotion")) for r in rows} - set(EMOTIONS))),
    )
