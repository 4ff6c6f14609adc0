"""Scripts: what two or more people said, and what some of them thought, in a scene.

A thought belongs to who had it: `heard_by` is all that anybody else may know of a script, and it is
what engines and training rows are given. A script that breaks a rule is never made.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from usersim.errors import InputError
from usersim.files import write_text
from usersim.personas.scenes import Scene, SceneSettings
from usersim.personas.schema import read_tables

Action = Literal["speaking", "thinking"]
ACTIONS: tuple[Action, ...] = get_args(Action)
FEWEST = 2  # utterances without which nobody answered anybody

ScriptReason = Literal[
    "too_few_utterances",
    "too_few_speakers",
    "unknown_speaker",
    "empty_action",  # the action is missing
    "unknown_action",  # it is neither speech nor thought: often the sentence itself
    "empty_utterance",
    "thought_not_permitted",
]


@dataclass(frozen=True, slots=True)
class Utterance:
    """Who said or thought what."""

    speaker: str
    action: Action
    content: str
    cut: bool = False
    """Whether a limit broke it off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A scene played out.

    Raises InputError when it breaks a rule; `args[1]` is the ScriptReason.
    """

    id: str
    scene: Scene
    speakers: tuple[str, ...]
    """Everybody in the scene; the first is the main character, whose scene it is."""
    thinkers: tuple[str, ...] = ()
    """Who of them may think aloud to themselves."""
    utterances: tuple[Utterance, ...]
    source: str = ""

    def __post_init__(self) -> None:
        for number, utterance in enumerate(self.utterances):
            self._check(number, utterance)
        if len(self.utterances) < FEWEST:
            raise _broken(f"only {len(self.utterances)} utterances", "too_few_utterances")
        if len(set(self.speakers)) < 2:
            raise _broken("nobody to talk to", "too_few_speakers")

    def _check(self, number: int, said: Utterance) -> None:
        where = f"utterance {number}"
        if not said.action.strip():
            raise _broken(f"{where}: no action", "empty_action")
        if said.action not in ACTIONS:
            raise _broken(f"{where}: unknown action {said.action[:60]!r}", "unknown_action")
        if said.speaker not in self.speakers:
            raise _broken(f"{where}: {said.speaker!r} is not in the scene", "unknown_speaker")
        if not said.content.strip():
            raise _broken(f"{where}: nothing is said", "empty_utterance")
        if said.action == "thinking" and said.speaker not in self.thinkers:
            raise _broken(f"{where}: {said.speaker} may not think", "thought_not_permitted")

    @property
    def main(self) -> str:
        """The main character's name."""
        return self.speakers[0]

    def heard_by(self, name: str) -> tuple[Utterance, ...]:
        """What a person in the scene knows: all that was said, and their own thoughts."""
        return heard_by(name, self.utterances)

    def spoken(self) -> tuple[Utterance, ...]:
        """The script without thoughts."""
        return tuple(u for u in self.utterances if u.action == "speaking")

    def to_row(self, thoughts: bool = True) -> dict[str, Any]:
        """Plain values; `from_row` undoes it. Without thoughts nobody is a thinker."""
        utterances = self.utterances if thoughts else self.spoken()
        return {
            "id": self.id,
            "scene": self.scene.model_dump(mode="json"),
            "speakers": list(self.speakers),
            "thinkers": list(self.thinkers) if thoughts else [],
            "utterances": [_said(u) for u in utterances],
            "source": self.source,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any], scenes: SceneSettings | None = None) -> Self:
        """The script of a row. Raises InputError for what is none."""
        try:
            return cls(
                id=row["id"],
                scene=Scene.from_row(row["scene"], scenes or SceneSettings()),
                speakers=tuple(row["speakers"]),
                thinkers=tuple(row["thinkers"]),
                utterances=tuple(Utterance(**u) for u in row["utterances"]),
                source=row.get("source", ""),
            )
        except (KeyError, TypeError) as error:
            raise _broken(f"not a script: {error}", "unknown_action") from error


def _said(said: Utterance) -> dict[str, Any]:
    row = {"speaker": said.speaker, "action": said.action, "content": said.content}
    return row | ({"cut": True} if said.cut else {})


def heard_by(name: str, utterances: Iterable[Utterance]) -> tuple[Utterance, ...]:
    """What a person knows of what was said and thought."""
    return tuple(u for u in utterances if u.action == "speaking" or u.speaker == name)


def _broken(message: str, reason: ScriptReason) -> InputError:
    return InputError(message, reason)


def write_scripts(path: Path, scripts: Iterable[Script], thoughts: bool = True) -> None:
    """Write scripts, one JSON object a line, with or without thoughts."""
    lines = (json.dumps(s.to_row(thoughts), ensure_ascii=False) for s in scripts)
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_scripts(path: Path, scenes: SceneSettings | None = None) -> list[Script]:
    """The scripts of a file. Raises InputError where one breaks a rule."""
    return [Script.from_row(row, scenes) for row in read_tables(path)]
