"""The report's part about role-play: the cast, what of its conditions was followed, and worth."""

from pathlib import Path
from typing import Any

from pipelines.run_view import RunView
from usersim.errors import InputError
from usersim.files import read_json
from usersim.personas.compliance import compliance
from usersim.personas.factory import marginals
from usersim.personas.scenes import Scene, read_scenes, settings_for
from usersim.personas.schema import Persona, read_personas
from usersim.personas.script import Script
from usersim.personas.script_rows import script_of
from usersim.personas.vocabulary import EMOTIONS, TOPICS

Context = dict[str, Any]


def roleplay(view: RunView) -> Context | None:
    """The cast's size and collisions, compliance of the kept sessions, and what parts are worth.

    None where the run played nobody. A cast that cannot be read is a problem of the view's.
    """
    folder = view.root / "conversations" / "cast"
    if not folder.is_dir():
        return None
    try:
        people = {p.id: p for p in read_personas(folder / "personas.jsonl")}
        path = folder / "scenes.jsonl"
        scenes = {s.id: s for s in read_scenes(path, settings_for(path))}
        scripts = _scripts(view, people, scenes)
    except InputError as error:
        view.problems.append(str(error))
        return None
    return {
        "people": len(people),
        "scenes": len(scenes),
        "sessions": len(scripts),
        "utterances": sum(len(s.utterances) for s in scripts),
        "top": marginals(list(people.values()))["top"],
        "followed": compliance(scripts, people),
        "lists": {"topics": len(TOPICS), "emotions": len(EMOTIONS)},
        "worth": _worth(view.root / "ablation.json"),
    }


def _scripts(view: RunView, people: dict[str, Persona], scenes: dict[str, Scene]) -> list[Script]:
    sessions = view.kept or view.simulated
    return [script_of(c, people, scenes) for c in sessions if c.scene_id]


def _worth(path: Path) -> dict[str, Any] | None:
    """What `realchat personas ablate RUN --out RUN` left, if anything."""
    table = read_json(path) if path.exists() else None
    return table if isinstance(table, dict) and "variants" in table else None
