"""Character-LLM's own files, which users bring: read row by row, what is broken listed.

    generated/   raw generations, scenes, dialogues        prompted/   prompt and output
    questions, single-turn and multi-turn interview results

Files are told apart by their fields. JSON lines, JSON arrays and JSON objects written one after the
other are all read; an object that cannot be read is one rejection, and reading goes on behind it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assistant.characters.experiences import Experience, Utterance, experience_id
from assistant.characters.interviews import Interview, Said
from assistant.characters.scenes import SCENE_TYPES
from usersim.conversation import Rejection
from usersim.errors import InputError

MARKER = "<|eot|>"
FEWEST_UTTERANCES = 3  # as the ancestor's own parser has it
FIELDS: dict[str, frozenset[str]] = {
    "raw": frozenset(("prompt", "completions", "check_result")),
    "dialogue": frozenset(("setting", "dialogue", "background")),
    "scene": frozenset(("type", "location", "background")),
    "prompted": frozenset(("prompt", "output")),
    "multi": frozenset(("character", "qid", "content")),
    "single": frozenset(("topic_id", "question", "reply")),
    "question": frozenset(("topic_id", "question")),
}
_SPEAKER = re.compile(r"^\s*(?P<name>[^\n():]{1,60}?)\s*\((?P<action>speaking|thinking)\)\s*:\s*")
_ACTIONS = {"speaking", "thinking"}


@dataclass(slots=True)
class Imported:
    """What was found; `counts` are rows read, by kind, and in = kept + rejected."""

    experiences: list[Experience] = field(default_factory=list)
    interviews: list[Interview] = field(default_factory=list)
    scenes: list[dict[str, str]] = field(default_factory=list)
    questions: list[dict[str, str]] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def reasons(self) -> dict[str, int]:
        """Rejections by reason."""
        return dict(Counter(r.reason for r in self.rejected).most_common())


class Broken(Exception):
    """No error of ours: a row that cannot be used, and why."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def read_layout(path: Path) -> Imported:
    """Everything in a file or folder. Raises InputError where there is no such file in it.

    DC10: .json and .jsonl are both read, whatever is inside.
    """
    files = sorted(path.rglob("*.json*")) if path.is_dir() else [path]
    if not files or not all(f.is_file() for f in files):
        raise InputError(f"{path} holds no .json or .jsonl file")
    found = Imported()
    for file in files:
        name = file.name if path.is_file() else str(file.relative_to(path))
        for number, row in enumerate(_objects(file)):
            _take(found, row, f"{name}:{number}", file)
    return found


def _take(found: Imported, row: Any, where: str, file: Path) -> None:
    try:
        if isinstance(row, Broken):
            raise row
        kind = _kind(row)
        found.counts[kind] += 1
        _READERS[kind](found, row, file)
    except Broken as broken:
        if isinstance(row, Broken) or not isinstance(row, Mapping):
            found.counts["unreadable"] += 1
        text = json.dumps(row, ensure_ascii=False, default=str)[:2000]
        found.rejected.append(Rejection(where, "import", broken.reason, broken.detail, text))


def _kind(row: Any) -> str:
    if not isinstance(row, Mapping):
        raise Broken("not_an_object", f"{type(row).__name__} where an object should be")
    for kind, fields in FIELDS.items():
        if fields <= row.keys():
            return kind
    # DC4: a malformed row is described by what it has, not by a key that it lacks.
    raise Broken("unknown_fields", f"fields are {', '.join(sorted(map(str, row)))[:200]}")


def _objects(path: Path) -> Iterator[Any]:
    """JSON values of a file in any of the three forms; a Broken for what cannot be read.

    DC2: values end where JSON says so, never at a pattern of braces.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    decoder, place = json.JSONDecoder(), 0
    while (place := _skipped(text, place)) < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except ValueError as error:
            end = text.find("\n", place)
            end = len(text) if end < 0 else end
            yield Broken("not_json", f"{error}: {text[place : place + 80]!r}")
            place = _next_object(text, end)
            continue
        yield from value if isinstance(value, list) else [value]


def _skipped(text: str, place: int) -> int:
    while place < len(text) and (text[place].isspace() or text[place] == ","):
        place += 1
    return place


def _next_object(text: str, place: int) -> int:
    """Where a line begins with a brace again; the end of the text when none does."""
    found = re.compile(r"^\{", re.MULTILINE).search(text, place)
    return found.start() if found else len(text)


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise Broken("empty_field", f"{key} is {value!r}")
    return value.strip()


def _background(row: Mapping[str, Any]) -> str:
    """DC1: a background of one character is the end of a prompt that was not parsed."""
    text = _text(row, "background")
    if len(text) < 3:
        raise Broken("empty_background", f"background is {text!r}")
    return text


def _read_raw(found: Imported, row: Mapping[str, Any], file: Path) -> None:
    if not row["completions"]:
        raise Broken("no_completion", f"check_result is {row['check_result']!r}")


def _read_scene(found: Imported, row: Mapping[str, Any], file: Path) -> None:
    kind = _text(row, "type").casefold()
    if kind not in SCENE_TYPES:
        raise Broken("unknown_scene_type", kind[:80])
    place, background = _text(row, "location"), _background(row)
    source = str(row.get("source") or "")
    scene = {"type": kind, "location": place, "background": background, "source": source}
    found.scenes.append(scene)


def _read_dialogue(found: Imported, row: Mapping[str, Any], file: Path) -> None:
    background = _background(row)
    lines = row["dialogue"]
    if not isinstance(lines, list) or len(lines) < FEWEST_UTTERANCES:
        raise Broken("too_short", f"{len(lines) if isinstance(lines, list) else 0} utterances")
    said = []
    for line in lines:
        if not isinstance(line, Mapping):
            raise Broken("malformed_utterance", repr(line)[:120])
        if line.get("action") not in _ACTIONS:
            raise Broken("unknown_action", repr(line.get("action"))[:120])
        said.append(Utterance(_text(line, "role"), _text(line, "content"), line["action"]))
    place = str(row.get("location") or "")
    found.experiences.append(_experience(_character(file, said), place, background, said, row))


def _read_prompted(found: Imported, row: Mapping[str, Any], file: Path) -> None:
    said = utterances(_text(row, "output"))
    if len(said) < FEWEST_UTTERANCES:
        raise Broken("too_short", f"{len(said)} utterances")
    prompt = _text(row, "prompt")
    place, status = (_after(prompt, label) for label in ("Location", "Status"))
    found.experiences.append(_experience(_character(file, said), place, status, said, row))


def utterances(output: str) -> list[Utterance]:
    """The utterances of an `output`, which the marker separates.

    C7: a piece that does not begin with a speaker belongs to the one before: the marker stood in
    its text. Raises Broken when the first piece names nobody.
    """
    said: list[tuple[str, str, str]] = []
    for piece in output.split(MARKER):
        start = _SPEAKER.match(piece)
        if start:
            said.append((start["name"], start["action"], piece[start.end() :]))
        elif said and piece.strip():
            name, action, text = said.pop()
            said.append((name, action, f"{text}{MARKER}{piece}"))
        elif piece.strip():
            raise Broken("no_speaker", piece.strip()[:120])
    if empty := [name for name, _, text in said if not text.strip()]:
        raise Broken("empty_field", f"{empty[0]} says nothing")
    return [Utterance(name, text.strip(), _action(action)) for name, action, text in said]


def _action(word: str) -> Any:
    return "thinking" if word == "thinking" else "speaking"


def _after(prompt: str, label: str) -> str:
    found = re.search(rf"^{label}:[ \t]*(.+)$", prompt, re.MULTILINE)
    if not found or len(found[1].strip()) < 2:
        raise Broken("empty_background", f"the prompt names no {label}")
    return found[1].strip()


def _experience(
    character: str, place: str, status: str, said: Sequence[Utterance], row: Mapping[str, Any]
) -> Experience:
    source = str(row.get("source") or "")
    return Experience(
        id=experience_id(character, source, status, [u.text for u in said]),
        character=character,
        kind="protective" if "protective" in source else "life",
        place=place,
        status=status,
        utterances=tuple(said),
        paragraph=source,
        writer="character-llm",
    )


def _character(file: Path, said: Sequence[Utterance]) -> str:
    """Whose experience it is: who thinks, else whom the file is named after, else who says most."""
    thinking = [u.speaker for u in said if u.action == "thinking"]
    named = [u.speaker for u in said if u.speaker.split()[0].casefold() in file.stem.casefold()]
    return Counter(thinking or named or [u.speaker for u in said]).most_common(1)[0][0]


def _read_question(found: Imported, row: Mapping[str, Any], file: Path) -> None:
    found.questions.append(
        {"topic": str(row.get("topic") or ""), "question": _text(row, "question")}
    )


def _read_single(found: Imported, row: Mapping[str, Any], file: Path) -> None:
    reply = row["reply"]
    first = reply[0] if isinstance(reply, list) and reply else reply
    text = str(first.get("content") or "") if isinstance(first, Mapping) else str(first or "")
    ask = _text(row, "question")
    turns = (Said("user", ask), Said("assistant", text.strip()))
    topic = str(row.get("topic") or "")
    found.interviews.append(
        Interview(file.stem, file.parent.name, "", topic, ask, 0, "rounds", turns)
    )


def _read_multi(found: Imported, row: Mapping[str, Any], file: Path) -> None:
    """DC6: a turn is kept whatever its first entry is; thoughts stand in parentheses."""
    content = row["content"] if isinstance(row["content"], list) else []
    entries = [e for e in content if isinstance(e, Mapping)]
    turns = []
    for entry in entries:
        asks = entry.get("turn_role") == entries[0].get("turn_role")  # who begins is who asks
        parts = [_part(p) for p in entry.get("turn_content") or []]
        turns.append(Said("user" if asks else "assistant", "\n".join(filter(None, parts))))
    if not turns:
        raise Broken("too_short", "no turn")
    names = str(row["character"]), str(row.get("model") or ""), "interviewer"
    ended = "rounds" if row.get("finished", True) else "unfinished"
    topic = str(row.get("topic") or "")
    found.interviews.append(Interview(*names, topic, turns[0].text, 0, ended, tuple(turns)))


def _part(part: Any) -> str:
    if isinstance(part, Mapping):
        text = str(part.get("content") or "").strip()
        return f"({text})" if part.get("action") == "thinking" and text else text
    return str(part or "").strip()


_READERS: dict[str, Callable[[Imported, Mapping[str, Any], Path], None]] = {
    "raw": _read_raw,
    "dialogue": _read_dialogue,
    "scene": _read_scene,
    "prompted": _read_prompted,
    "multi": _read_multi,
    "single": _read_single,
    "question": _read_question,
}
