"""The cast of a simulation: whose characters the assistant plays, in which scenes, before whom.

A cast is made of its settings and the run's random seed alone, so that every machine and every
resumption knows the same one. Conversation i plays scene i, after the last the first again.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import Field

from usersim.briefs import Brief
from usersim.errors import InputError
from usersim.personas.factory import FactorySettings, complete, make_personas
from usersim.personas.roleplay import LeftOut, character_system, profile_line
from usersim.personas.scenes import (
    Scene,
    SceneSettings,
    make_scenes,
    read_scenes,
    with_article,
    write_scenes,
)
from usersim.personas.schema import Persona, read_tables, write_personas
from usersim.settings import Settings


class CastSettings(Settings):
    """Role-play: personas for the assistant to play, scenes to play them in."""

    personas: int = Field(0, ge=0, description="characters to make up; 0: no role-play")
    file: str = Field(
        "", description="characters of your own instead: YAML, JSON, JSONL; four aspects are enough"
    )
    quotas: dict[str, dict[str, float]] = Field(
        {}, description="weights over gender, age, culture, field, length ... of those made up"
    )
    scenes_each: int = Field(20, ge=1, description="scenes of every character")
    types: dict[str, float] = Field({}, description="weights over scene types; empty: equal")
    topics: dict[str, float] = Field({}, description="weights over topics; empty: equal")
    emotions: dict[str, float] = Field({}, description="weights over emotions; empty: equal")
    more_topics: tuple[str, ...] = Field((), description="topics of your own, beside the 18")
    more_emotions: tuple[str, ...] = Field((), description="emotions of your own, beside the 16")
    user: Literal["free", "persona"] = Field(
        "persona",
        description="persona: UserGPT plays another of the cast; free: told nothing",
    )
    leave_out: LeftOut = Field(
        (), description="what the character is not told: aspects, scene, emotion, or an attribute"
    )

    @property
    def any(self) -> bool:
        """Whether there is role-play at all."""
        return bool(self.personas or self.file)

    def scene_settings(self, seed: int) -> SceneSettings:
        """The part that says which scenes."""
        return SceneSettings(
            each=self.scenes_each,
            seed=seed,
            types=self.types,
            topics=self.topics,
            emotions=self.emotions,
            more_topics=self.more_topics,
            more_emotions=self.more_emotions,
        )


@dataclass(frozen=True, slots=True)
class Cast:
    """The characters, and their scenes in the order in which they are played."""

    personas: tuple[Persona, ...]
    scenes: tuple[Scene, ...]
    settings: CastSettings
    seed: int

    def briefs(self) -> tuple[Brief, ...]:
        """What the speakers are given, scene by scene."""
        place_of = {persona.id: place for place, persona in enumerate(self.personas)}
        return tuple(self._brief(place_of[scene.persona_id], scene) for scene in self.scenes)

    def _brief(self, place: int, scene: Scene) -> Brief:
        character, user = self.personas[place], self._partner(place, scene)
        return Brief(
            intent=_intent(character, scene) if user else "",
            profile=profile_line(user) if user else "",
            persona_id=user.id if user else "",
            character_id=character.id,
            scene_id=scene.id,
            assistant_system=character_system(character, scene, self.settings.leave_out),
        )

    def _partner(self, place: int, scene: Scene) -> Persona | None:
        """Another of the cast; nobody where the user is free or the cast has one member."""
        others = len(self.personas) - 1
        if self.settings.user == "free" or others < 1:
            return None
        step = 1 + Random(f"{self.seed}:{scene.id}").randrange(others)
        return self.personas[(place + step) % (others + 1)]

    def keep(self, folder: Path) -> None:
        """Keep `personas.jsonl` and `scenes.jsonl`; the ids in the rows are theirs.

        Raises InputError when others are kept there: a file of people was changed meanwhile.
        """
        kept = folder / "scenes.jsonl"
        if not kept.exists():
            self.write(folder)
        elif tuple(read_scenes(kept, self.settings.scene_settings(self.seed))) != self.scenes:
            raise InputError(
                f"the people in {self.settings.file} are not those in {folder}, with whom this run"
                " began: restore the file, or begin another run"
            )

    def write(self, folder: Path) -> None:
        """Write both files."""
        write_personas(folder / "personas.jsonl", self.personas)
        write_scenes(folder / "scenes.jsonl", self.scenes)


def _intent(character: Persona, scene: Scene) -> str:
    return f"talk with {character.first_name}, {with_article(character.career)}: {scene.topic}"


def cast_of(settings: CastSettings, seed: int) -> Cast:
    """The cast. Raises InputError for quotas that cannot be met, or a file that holds no people."""
    return _cast(settings.model_dump_json(), seed, _stamp(settings.file))


def _stamp(file: str) -> str:
    """Changes when the file does, so that a cast in memory is not an old one."""
    path = Path(file)
    return f"{path.stat().st_mtime_ns}" if file and path.exists() else ""


@lru_cache(maxsize=4)
def _cast(settings_json: str, seed: int, stamp: str) -> Cast:
    settings = CastSettings.model_validate_json(settings_json)
    if settings.file:
        people = [complete(table, seed) for table in read_tables(Path(settings.file))]
    else:
        wanted = FactorySettings(number=settings.personas, seed=seed, quotas=settings.quotas)
        people = make_personas(wanted).personas
    scenes = make_scenes(people, settings.scene_settings(seed))
    return Cast(tuple(people), tuple(scenes), settings, seed)
