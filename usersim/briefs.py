"""Briefs: what the two speakers of a conversation are given before it begins, all of it optional.

A brief is a row of a JSONL or Parquet file, or is read off a real person of the training split:
that person's profile, intent, or both, for UserGPT to play. Conversation i gets brief i, from
the beginning again when there are fewer of them than conversations.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from usersim.conditions import IntentWords, profile_of, user_system
from usersim.encoding import well_formed
from usersim.errors import InputError
from usersim.files import fingerprint, read_conversations, read_rows
from usersim.intents import told_intents

Given = Literal["profile", "intent"]


@dataclass(frozen=True, slots=True)
class Brief:
    """What is known of a conversation's speakers; an empty field says nothing."""

    opener: str = ""
    """The user's first turn, as it will stand."""
    intent: str = ""
    """What the simulated person wants, in a line."""
    profile: str = ""
    """Who they are and how they write, in a line."""
    intent_id: str = ""
    persona_id: str = ""
    """Whom UserGPT plays."""
    character_id: str = ""
    """Whom the assistant plays."""
    scene_id: str = ""
    assistant_system: str = ""
    """The assistant's system message in place of the recipe's."""

    @property
    def user_system(self) -> str:
        """What UserGPT is told, or "" to leave it to its template."""
        return user_system(self.intent, self.profile) if self.intent or self.profile else ""


FREE = Brief()


def read_briefs(path: Path) -> tuple[Brief, ...]:
    """The briefs in a `.jsonl` or `.parquet` file.

    Raises InputError naming the file and line for what is no brief: an unknown key most of all.
    """
    if not path.is_file():
        raise InputError(f"no file of briefs {path}")
    briefs = tuple(_brief(row, where) for where, row in _rows(path))
    if not briefs:
        raise InputError(f"{path} holds no brief")
    return briefs


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".parquet":
        for number, row in enumerate(read_rows(path), 1):
            yield f"{path}, row {number}", row
        return
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a text may hold U+2028
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error.reason}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{path}, line {number}", _json(line, f"{path}, line {number}")


def _json(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON: {error.msg}") from error


def _brief(row: Any, where: str) -> Brief:
    known = [f.name for f in fields(Brief)]
    if not isinstance(row, dict):
        raise InputError(f"{where}: a brief is an object with any of {', '.join(known)}")
    for key, value in row.items():
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}; a brief has {', '.join(known)}")
        if value is not None and not isinstance(value, str):
            raise InputError(f"{where}: {key} must be text, not {type(value).__name__}")
        if value and well_formed(value) != value:
            raise InputError(f"{where}: {key} holds half of a character, which no file can hold")
    return Brief(**{key: value for key, value in row.items() if value and value.strip()})


@lru_cache(maxsize=4)
def briefs_of_people(
    people: Path, given: tuple[Given, ...], words: int, seed: int
) -> tuple[Brief, ...]:
    """What real people of a split were like, one brief each, in an order that the seed decides.

    Their intents are those that UserGPT's training was told: what somebody wrote, else so many
    `words` of their turns.
    Raises InputError when the split is missing: briefs are then to be given in a file.
    """
    if not people.is_file():
        raise InputError(
            f"simulate.given asks for real people's {' and '.join(given)}, but {people} is"
            " missing: run `realchat ingest`, or name a file of your own in simulate.briefs"
        )
    conversations = read_conversations(people)
    conversations.sort(key=lambda c: fingerprint([seed, c.id]))
    read_off = IntentWords(c.user_turns for c in conversations) if "intent" in given else None
    written = told_intents(people.parent) if read_off else {}
    return tuple(
        Brief(
            intent=written.get(c.id) or read_off.of(c.user_turns, words) if read_off else "",
            profile=profile_of(c.user_turns).line() if "profile" in given else "",
            intent_id=c.id if read_off else "",
        )
        for c in conversations
    )
