"""Marks: what a person thinks of single conversations, saved beside the run.

`marks.json` holds one entry a conversation: `{id: {"mark": "good", "why": ..., "at": ...}}`.
The dashboard writes it, and `curate` drops what is marked bad (recipe key `curate.marks`).
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from usersim.errors import InputError, WorldError
from usersim.files import read_json, write_json

FILE = "marks.json"
MAX_WHY = 500
Opinion = Literal["good", "bad"]
OPINIONS: tuple[str, ...] = get_args(Opinion)


@dataclass(frozen=True, slots=True)
class Mark:
    """One person's opinion of one conversation, and when it was given (UTC, ISO 8601)."""

    mark: Opinion
    why: str = ""
    at: str = ""


def read_marks(run: Path) -> dict[str, Mark]:
    """The marks of a run by conversation id; empty without any.

    Raises InputError when the file is not what the dashboard writes.
    """
    path = run / FILE
    if not path.exists():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path} is no table of marks: mend it, or remove it")
    return {str(key): _mark(path, str(key), value) for key, value in found.items()}


def _mark(path: Path, key: str, value: Any) -> Mark:
    if not isinstance(value, dict) or value.get("mark") not in OPINIONS:
        raise InputError(f"{path}: {key} has no mark of {', '.join(OPINIONS)}; mend or remove it")
    return Mark(value["mark"], str(value.get("why", "")), str(value.get("at", "")))


def set_mark(run: Path, conversation: str, mark: str, why: str = "") -> None:
    """Save an opinion; "" takes it back. Two writers do not lose each other's marks.

    Raises InputError for an unknown mark, WorldError when the disk refuses.
    """
    if mark not in ("", *OPINIONS):
        raise InputError(f"a mark is one of {', '.join(OPINIONS)}, not {mark!r}")
    with _alone(run):
        marks = read_marks(run)
        marks.pop(conversation, None)
        if mark:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            marks[conversation] = Mark(cast("Opinion", mark), " ".join(why.split())[:MAX_WHY], now)
        write_json(run / FILE, {key: asdict(value) for key, value in marks.items()})


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Hold the file's own lock, not the run's: marks may be set while the run works."""
    try:
        with (run / f".{FILE}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise WorldError(f"cannot save marks in {run}: {error.strerror or error}") from error
