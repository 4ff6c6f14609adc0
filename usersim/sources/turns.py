"""Turns out of foreign values: every layout is read with these, so all refuse the same things."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from usersim.conversation import Message, Role, StopReason
from usersim.sources.draft import BadRecord


@dataclass(frozen=True, slots=True)
class Reading:
    """What a layout finds in one record."""

    messages: tuple[Message, ...]
    stop_reason: StopReason | None = None
    scraped: bool = False
    persons: tuple[str, ...] = ()


def named(values: Iterable[Any]) -> tuple[str, ...]:
    """The persons that some cells name; an empty one, also as pandas writes it, names nobody."""
    found = (str(value) for value in values)
    return tuple(name for name in found if name not in ("", "None", "nan"))


def names_in(record: Mapping[str, Any]) -> str:
    """The column names of a record, for a message to the caller."""
    return ", ".join(sorted(map(str, record))[:20]) or "an empty record"


def rows_in(record: Mapping[str, Any], column: str) -> list[Any]:
    """The list in a column. Raises BadRecord when it is empty or no list."""
    rows = record[column]
    if isinstance(rows, list) and rows:
        return rows
    reason = "empty_conversation" if rows == [] else "malformed_message"
    raise BadRecord(reason, f"{column} is {rows!r:.80}")


def spoken(
    rows: Sequence[Any], keys: tuple[str, str], roles: Mapping[str, Role]
) -> tuple[Message, ...]:
    """Messages of mappings; `keys` name the speaker and the text.

    Raises BadRecord: `malformed_message`, `unknown_role`, `not_utf8`.
    """
    speaker, text = keys
    found = []
    for row in rows:
        try:
            found.append(said(role_of(row[speaker], roles), _whole(row[text])))
        except KeyError as error:
            detail = f"a message has no {error}, but {names_in(row)}"
            raise BadRecord("malformed_message", detail) from error
        except TypeError as error:
            raise BadRecord("malformed_message", f"{type(error).__name__}: {error}") from error
    return tuple(found)


def _whole(content: Any) -> Any:
    """The text of content that comes in parts, as chat APIs have it, all of them texts."""
    if not isinstance(content, list) or not content:
        return content
    found = [part.get("text") if isinstance(part, Mapping) else None for part in content]
    texts = [text for text in found if isinstance(text, str)]
    return "\n".join(texts) if len(texts) == len(content) else content


def alternating(texts: Sequence[Any]) -> tuple[Message, ...]:
    """Messages of bare texts, the user's first."""
    return tuple(said(("user", "assistant")[n % 2], text) for n, text in enumerate(texts))


def said(role: Role, text: Any) -> Message:
    """One message. Raises BadRecord unless its text is a text that can be written."""
    if not isinstance(text, str):
        raise BadRecord("malformed_message", f"a turn is {text!r:.80}, not a text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRecord("not_utf8", str(error)) from error
    return Message(role, text)


def role_of(name: Any, roles: Mapping[str, Role]) -> Role:
    """Our role of a foreign name. Raises BadRecord `unknown_role`, TypeError for no name."""
    try:
        return roles[name]
    except KeyError:
        raise BadRecord("unknown_role", f"{name!r} is none of {', '.join(roles)}") from None
