"""Reads SimsChat's data layout: four folders of text and JSON that a user brings.

    characters/wiki_<Name>.txt                      a heading and prose
    scene/generated_agent_scene_<Name>.json         type, location, background
    dialogue/generated_agent_dialogue_<Name>.json   setting, emotion, topic, dialogue
    interview/generated_agent_interview_<Name>.json a list of one list of questions

What is broken is listed with its reason, dialogue by dialogue and utterance by utterance, and so is
what is missing altogether: a scene that no dialogue plays. Nothing is mended in silence.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usersim.conversation import Rejection
from usersim.errors import InputError
from usersim.files import fingerprint, write_json, write_rejections, write_text
from usersim.personas.scenes import Scene
from usersim.personas.script import ACTIONS, Script, Utterance, write_scripts
from usersim.personas.vocabulary import EMOTIONS, SCENE_TYPES, TOPICS, Vocabulary

STAGE = "import"
_STEP = re.compile(r"[^\W\d]+", re.UNICODE)
_HEADING = re.compile(r"^\s*#\s*(.+?)\s*$", re.MULTILINE)
# A label of the wild and the topic or type that it means; anything else is off-list and told.
_MEANT = {"deep thought": "deep thoughts", "hobby": "hobbies", "interest": "interests",
          "joke": "jokes", "story": "stories", "complaint": "complaints", "argument": "arguments",
          "compliment": "compliments"}  # fmt: skip


@dataclass(slots=True)
class Imported:
    """What was read, and what was not, with reasons."""

    characters: dict[str, str] = field(default_factory=dict)
    """Prose by name."""
    scenes: int = 0
    dialogues: int = 0
    utterances: int = 0
    questions: int = 0
    scripts: list[Script] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    spellings: Counter[str] = field(default_factory=Counter)
    """Topics as they were written."""

    def figures(self) -> dict[str, Any]:
        """Counts as the data holds them, scripts kept, and reasons."""
        reasons = Counter(r.reason for r in self.rejections)
        return {
            "characters": len(self.characters),
            "scenes": self.scenes,
            "dialogues": self.dialogues,
            "utterances": self.utterances,
            "questions": self.questions,
            "scripts": len(self.scripts),
            "topic_spellings": len(self.spellings),
            "reasons": dict(sorted(reasons.items())),
        }

    def refuse(self, row_id: str, reason: str, detail: str, record: Any) -> None:
        """Note what is broken."""
        text = json.dumps(record, ensure_ascii=False)
        self.rejections.append(Rejection(row_id, STAGE, reason, detail, text))

    def write(self, out: Path) -> None:
        """`characters.jsonl`, `scripts.jsonl`, `rejected.parquet` and `figures.json`."""
        rows = ({"name": n, "prose": p} for n, p in self.characters.items())
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        write_text(out / "characters.jsonl", "".join(f"{line}\n" for line in lines))
        write_scripts(out / "scripts.jsonl", self.scripts)
        write_rejections(out / "rejected.parquet", self.rejections)
        write_json(out / "figures.json", self.figures())


def read_simschat(root: Path) -> Imported:
    """Everything under a folder of that layout. Raises InputError when it holds no characters."""
    found = Imported()
    for path in sorted((root / "characters").glob("wiki_*.txt")):
        _read_character(path, found)
    if not found.characters:
        raise InputError(f"{root} holds no characters/wiki_<Name>.txt: it is not SimsChat's layout")
    for name in found.characters:
        key = name.replace(" ", "_")
        scenes = list(_records(root / "scene" / f"generated_agent_scene_{key}.json", found))
        found.scenes += len(scenes)
        dialogues = list(
            _records(root / "dialogue" / f"generated_agent_dialogue_{key}.json", found)
        )
        _read_dialogues(name, scenes, dialogues, found)
        questions = root / "interview" / f"generated_agent_interview_{key}.json"
        found.questions += sum(len(r) for r in _records(questions, found) if isinstance(r, list))
    return found


def _read_character(path: Path, found: Imported) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    heading = _HEADING.search(text)
    name = heading[1] if heading else path.stem.removeprefix("wiki_").replace("_", " ")
    found.characters[name] = _HEADING.sub("", text, count=1).strip()


def _records(path: Path, found: Imported) -> Iterator[Any]:
    """The rows of a file: a JSON list, one object a line, or objects written one after another."""
    if not path.exists():
        found.refuse(path.name, "missing_file", "the character has no such file", str(path.name))
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    place, decoder = 0, json.JSONDecoder()
    while place < len(text):
        rest = text[place:]
        place += len(rest) - len(rest.lstrip())
        if place >= len(text):
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            found.refuse(path.name, "not_json", str(error), text[place : place + 200])
            return
        yield from value if isinstance(value, list) and _is_rows(value) else [value]


def _is_rows(values: Sequence[Any]) -> bool:
    return all(isinstance(value, Mapping | list) for value in values)


def _read_dialogues(
    name: str, scenes: Sequence[Any], dialogues: Sequence[Any], found: Imported
) -> None:
    played = set()
    for number, row in enumerate(dialogues):
        row_id = f"{name}/{number}"
        found.dialogues += 1
        if not isinstance(row, Mapping):
            found.refuse(row_id, "malformed_dialogue", "not an object", row)
            continue
        played.add(_scene_number(row.get("source"), number))
        script = _script(name, row_id, row, scenes, found)
        if script:
            found.scripts.append(script)
    for number in sorted(set(range(len(scenes))) - played):
        found.refuse(
            f"{name}/scene {number}", "missing_dialogue", "nobody plays it", scenes[number]
        )


def _scene_number(source: Any, number: int) -> int:
    """The scene that a dialogue plays: the first number in its source, counted from 0."""
    digits = re.search(r"seed_\w+?_(\d+)", str(source))
    return int(digits[1]) if digits else number


def _script(
    name: str, row_id: str, row: Mapping[str, Any], scenes: Sequence[Any], found: Imported
) -> Script | None:
    """The dialogue's script, its broken utterances left out and listed; None when it is broken."""
    said = []
    rows = row.get("dialogue")
    for number, raw in enumerate(rows if isinstance(rows, list) else []):
        found.utterances += 1
        utterance = _utterance(f"{row_id}/{number}", raw, found)
        if utterance:
            said.append(utterance)
    speakers = tuple(dict.fromkeys([name, *(u.speaker for u in said)]))
    thinkers = tuple(dict.fromkeys(u.speaker for u in said if u.action == "thinking"))
    try:
        scene = _scene(name, row_id, row, scenes, found)
        return Script(
            id=row_id, scene=scene, speakers=speakers, thinkers=thinkers,
            utterances=tuple(said), source=str(row.get("source", "")),
        )  # fmt: skip
    except InputError as error:
        reason = error.args[1] if len(error.args) > 1 else "off_list_label"
        found.refuse(row_id, reason, str(error.args[0]), dict(row))
        return None


def _utterance(row_id: str, raw: Any, found: Imported) -> Utterance | None:
    """An utterance, or None when it is broken: its action is missing, or no action at all."""
    if not isinstance(raw, Mapping):
        found.refuse(row_id, "malformed_utterance", "not an object", raw)
        return None
    action = str(raw.get("action") or "").strip().casefold()
    content = str(raw.get("content") or "").strip()
    speaker = " ".join(str(raw.get("role") or "").split())
    if not action:
        found.refuse(row_id, "empty_action", "neither speech nor thought", dict(raw))
    elif action not in ACTIONS:
        found.refuse(row_id, "unknown_action", action[:80], dict(raw))
    elif not content or not speaker:
        found.refuse(row_id, "empty_utterance", "nobody, or nothing said", dict(raw))
    else:
        return Utterance(speaker, "thinking" if action == "thinking" else "speaking", content)
    return None


def _scene(
    name: str, row_id: str, row: Mapping[str, Any], scenes: Sequence[Any], found: Imported
) -> Scene:
    """The scene of a dialogue. Raises InputError for a label off its list, or a lost background."""
    number = _scene_number(row.get("source"), int(row_id.rpartition("/")[2]))
    of_scene = scenes[number] if number < len(scenes) else {}
    known = of_scene if isinstance(of_scene, Mapping) else {}
    background = str(row.get("background") or "").strip()
    if not re.search(r"\w", background):  # "." in 1,344 of 1,344 records: the field was never read
        background = str(known.get("background") or "").strip()
    if not re.search(r"\w", background):
        raise InputError("no background in the dialogue nor in its scene", "lost_background")
    written = row.get("topic")
    topics = [str(t) for t in written] if isinstance(written, list) else [str(written or "")]
    found.spellings.update(topics)
    return Scene(
        id=row_id.replace("/", "-s"),
        persona_id=f"simschat-{fingerprint(name)[:8]}",
        type=_label("scene types", SCENE_TYPES, [str(known.get("type", ""))]),
        location=str(row.get("location") or known.get("location") or "").strip() or "unknown",
        background=background[:200],
        topic=_label("topics", TOPICS, topics),
        emotion=_label("emotions", EMOTIONS, [str(row.get("emotion", ""))]),
    )


def _label(kind: str, labels: Sequence[str], written: Sequence[str]) -> str:
    """The label that one of the spellings means. Raises InputError, reason off_list_label."""
    words = Vocabulary(kind, tuple(labels))
    for text in written:
        label = words.recognise(_MEANT.get(" ".join(_STEP.findall(text.casefold())), text))
        if label:
            return label
    raise InputError(f"{kind}: {', '.join(written)[:80]!r} is not on the list", "off_list_label")
