"""Intents that a strong model writes: what each real person wanted, in a line of its own words.

    train_user:
      intent_writer: {kind: endpoint, model: some-model, url: http://localhost:8000/v1}

The model sees the person's turns only. What it writes is kept beside the people, a line as soon as
it is there, so that an interrupted call goes on. Whom it says nothing usable about keeps the intent
that is read off their words.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from usersim.conditions import one_line
from usersim.conversation import Conversation, Message
from usersim.engine import Engine, Sampling, all_or_none
from usersim.engines import EngineSpec, open_engine
from usersim.errors import DeterministicError, InputError, TransientError, WorldError
from usersim.files import whole_file
from usersim.progress import Track, track

ASK = (
    "Below is everything that a person wrote to an AI assistant, in order. In one line of at most "
    "twenty words, say what this person wants, as in: plan a week in Japan on a small budget. "
    "Answer with that line only."
)
MOST_CHARACTERS = 4_000  # of a person's turns: what somebody wants shows early
MOST_WORDS = 40  # a longer answer is no line about an intent
AT_ONCE = 64
TOLD = "told_intents.jsonl"


def write_intents(
    writer: EngineSpec | Engine, people: Sequence[Conversation], path: Path
) -> dict[str, str]:
    """Intents by conversation id, for those of `people` whom the writer understood.

    What `path` holds already is not asked for again. Raises WorldError when the file cannot be
    written, and the engine's EngineDead.
    """
    known = read_intents(str(path)) if path.exists() else {}
    missing = [person for person in people if person.id not in known]
    if missing:
        try:
            with path.open("a", encoding="utf-8") as file:
                file.truncate(_whole_bytes(path))
                if known and not path.read_bytes().endswith(b"\n"):
                    file.write("\n")  # what stands there is a line of its own
                known |= asyncio.run(_written(writer, missing, file))
        except OSError as error:
            raise WorldError(f"cannot keep intents in {path}: {error.strerror}") from error
    return known


async def _written(
    writer: EngineSpec | Engine, people: Sequence[Conversation], file: TextIO
) -> dict[str, str]:
    engine = open_engine(writer) if isinstance(writer, EngineSpec) else writer
    found: dict[str, str] = {}
    waiting = iter(people)

    async def ask_in_turn(bar: Track) -> None:
        for person in waiting:
            intent = await _intent(engine, person)
            bar.advance()
            if intent:
                found[person.id] = intent
                line = json.dumps({"id": person.id, "intent": intent}, ensure_ascii=False)
                file.write(line + "\n")
                file.flush()

    try:
        with track("intents", total=len(people), unit="people") as bar:
            await all_or_none(ask_in_turn(bar) for _ in range(AT_ONCE))
    finally:
        if isinstance(writer, EngineSpec):
            await engine.close()
    return found


async def _intent(engine: Engine, person: Conversation) -> str:
    """One line, or "" when the writer has none to give."""
    turns = "\n---\n".join(person.user_turns)[:MOST_CHARACTERS]
    sampling = Sampling(max_tokens=64, temperature=0.0, seed=0)
    try:
        answer = await engine.complete([Message("system", ASK), Message("user", turns)], sampling)
    except (DeterministicError, TransientError):
        return ""
    line = one_line(answer.text)
    usable = answer.finish_reason == "stop" and 0 < len(line.split()) <= MOST_WORDS
    return line if usable else ""


def read_intents(path: str) -> dict[str, str]:
    """Intents by conversation id; none without a path. Raises InputError for any other file.

    A last line that a kill broke off is left out: it will be asked for again.
    """
    if not path:
        return {}
    try:
        text = Path(path).read_bytes()[: _whole_bytes(Path(path))].decode("utf-8-sig")
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        return {str(row["id"]): str(row["intent"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'intents in {path}: wanted lines of {{"id": "...", "intent": "..."}}: {error}'
        ) from error


def keep_told(people: Path, written: Mapping[str, str]) -> None:
    """Note beside the people which written intents training told, for who tells them later."""
    path = people / TOLD
    if not written:
        path.unlink(missing_ok=True)
        return
    with whole_file(path) as draft, draft.open("w", encoding="utf-8") as file:
        for name, intent in written.items():
            file.write(json.dumps({"id": name, "intent": intent}, ensure_ascii=False) + "\n")


def told_intents(people: Path) -> dict[str, str]:
    """Written intents that training told, by conversation id; empty where it read all off turns."""
    path = people / TOLD
    return read_intents(str(path)) if path.is_file() else {}


def _whole_bytes(path: Path) -> int:
    """How much of a file of JSON lines is whole: all but a last line that a kill broke off."""
    data = path.read_bytes()
    last = data[data.rfind(b"\n") + 1 :]
    try:
        json.loads(last or b"null")
    except ValueError:
        return len(data) - len(last)
    return len(data)
