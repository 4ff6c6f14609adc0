"""The known layouts of a record: how each is recognised, and what its conversation is.

To add one: a function that tells it, a function that reads it, and a line in `LAYOUTS`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from usersim.conversation import ROLES, STOP_REASONS, Message, Role, StopReason
from usersim.sources.draft import BadRecord
from usersim.sources.trees import is_tree
from usersim.sources.turns import (
    Reading,
    alternating,
    named,
    names_in,
    role_of,
    rows_in,
    said,
    spoken,
)

Record = Mapping[str, Any]
Shape = Literal[
    "messages", "sharegpt", "wildchat", "lmsys", "oasst", "prism", "ultrachat", "baize", "prompt"
]

_OUR_ROLES: dict[str, Role] = {role: role for role in ROLES}
_SHAREGPT_ROLES: dict[str, Role] = _OUR_ROLES | {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}
_PRISM_ROLES: dict[str, Role] = {"user": "user", "model": "assistant"}
_BAIZE_ROLES: dict[str, Role] = {"Human": "user", "AI": "assistant"}
_BAIZE_TURN = re.compile(r"^\[\|(\w+)\|\]", re.MULTILINE)
_ANSWER_COLUMNS = ("completion", "response")
_PERSON_COLUMNS = ("user_id", "hashed_ip")


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout of a record."""

    tells: Callable[[Record], bool]
    """Whether a record has it."""
    read: Callable[[Record], Reading]
    """Its conversation; raises BadRecord."""
    about: str
    """The columns that tell it, in a few words."""


def read_record(record: Any, shape: Shape | Literal["auto"]) -> tuple[Shape, Reading]:
    """The layout of a record and what it says.

    Raises BadRecord: `unknown_shape`, `ambiguous_layout` when two layouts find different
    conversations in it, or what the layout refuses.
    """
    if not isinstance(record, Mapping):
        raise BadRecord("unknown_shape", "a record must be an object")
    found = [name for name in LAYOUTS if shape in ("auto", name) and LAYOUTS[name].tells(record)]
    if not found:
        raise BadRecord("unknown_shape", _unknown(record, shape))
    return _agreed(record, found)


def _unknown(record: Record, shape: str) -> str:
    """What is missing, and of a column that could have been it what is wrong with it."""
    layouts = [LAYOUTS[shape]] if shape in LAYOUTS else list(LAYOUTS.values())
    wanted = layouts[0].about if shape in LAYOUTS else "known layout"
    unusable = [
        f"; {column} is {record[column]!r:.60}, wanted is {layout.about}"
        for layout in layouts
        if (column := layout.about.split("`")[1]) in record
    ]
    advice = "name the columns with ingest.columns"
    return f"no {wanted} in {names_in(record)}{''.join(unusable)}: {advice}"


def _agreed(record: Record, names: list[Shape]) -> tuple[Shape, Reading]:
    """The reading of the only layout that finds a conversation, or that all of them share."""
    readings: dict[Shape, Reading] = {}
    refusals: list[BadRecord] = []
    for name in names:
        try:
            readings[name] = LAYOUTS[name].read(record)
        except BadRecord as bad:
            refusals.append(bad)
    if not readings:
        raise refusals[0]
    if len({reading.messages for reading in readings.values()}) > 1:
        choices = " or ".join(f"ingest.format={name}" for name in readings)
        raise BadRecord("ambiguous_layout", f"two conversations in one record: choose {choices}")
    return next(iter(readings.items()))


def _has(column: str) -> Callable[[Record], bool]:
    return lambda record: record.get(column) is not None


def _persons(record: Record) -> tuple[str, ...]:
    """Who the user is, where a column of the record tells."""
    return named(record.get(column) for column in _PERSON_COLUMNS)


def _plain(record: Record) -> Reading:
    messages = spoken(rows_in(record, "messages"), ("role", "content"), _OUR_ROLES)
    return Reading(messages, _own_stop_reason(record), persons=_persons(record))


def _sharegpt(record: Record) -> Reading:
    """Dumps are copies of web pages; a record that says `"scraped": false` is none."""
    messages = spoken(rows_in(record, "conversations"), ("from", "value"), _SHAREGPT_ROLES)
    is_scraped = record.get("scraped") is not False
    return Reading(messages, _own_stop_reason(record), is_scraped, _persons(record))


def _own_stop_reason(record: Record) -> StopReason | None:
    """How it ended, where the record is one of ours."""
    found = record.get("stop_reason")
    return next((reason for reason in STOP_REASONS if reason == found), None)


def _is_wildchat(record: Record) -> bool:
    rows = record.get("conversation")
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], Mapping):
        return False
    return "conversation_hash" in record or "toxic" in rows[0]


def _is_lmsys(record: Record) -> bool:
    rows = record.get("conversation")
    return isinstance(rows, list) and "conversation_id" in record and not _is_wildchat(record)


def _conversation(record: Record) -> Reading:
    """WildChat's and LMSYS's; a WildChat turn also says from which (hashed) address it came."""
    rows = rows_in(record, "conversation")
    messages = spoken(rows, ("role", "content"), _OUR_ROLES)
    persons = [p for row in (record, *rows) for p in _persons(row)]
    return Reading(messages, persons=tuple(dict.fromkeys(persons)))


def _prism(record: Record) -> Reading:
    """Of several answers to a turn the one that the person chose and went on from."""
    rows = rows_in(record, "conversation_history")
    try:
        turns = sorted({row["turn"] for row in rows})
        found = [row for turn in turns for row in _heard(rows, turn)]
    except (KeyError, TypeError) as error:
        raise BadRecord("malformed_message", f"{type(error).__name__}: {error}") from error
    messages = spoken(found, ("role", "content"), _PRISM_ROLES)
    return Reading(messages, persons=_persons(record))


def _heard(rows: list[Record], turn: int) -> list[Record]:
    """What was said in one turn; an unknown role is kept, to be refused by name."""
    said_now = [row for row in rows if row["turn"] == turn]
    prompts = [row for row in said_now if row["role"] == "user"]
    answers = [row for row in said_now if row["role"] == "model" and row.get("if_chosen")]
    return [*prompts, *answers[:1], *(row for row in said_now if row["role"] not in _PRISM_ROLES)]


def _is_ultrachat(record: Record) -> bool:
    rows = record.get("data")
    return isinstance(rows, list) and all(isinstance(row, str) for row in rows)


def _ultrachat(record: Record) -> Reading:
    """Two models talk for a number of rounds: nobody decides to leave."""
    return Reading(alternating(rows_in(record, "data")), "cut", persons=_persons(record))


def _is_baize(record: Record) -> bool:
    text = record.get("input")
    return isinstance(text, str) and bool(_BAIZE_TURN.search(text))


def _baize(record: Record) -> Reading:
    """One text with a marker before each turn; what stands before the first is the prompt's."""
    _, *pieces = _BAIZE_TURN.split(record["input"])
    speakers, texts = pieces[::2], [text.strip() for text in pieces[1::2]]
    if len(texts) > 1 and not texts[-1]:
        speakers.pop(), texts.pop()  # the marker at which generation stopped
    messages = [
        said(role_of(speaker, _BAIZE_ROLES), text)
        for speaker, text in zip(speakers, texts, strict=True)
    ]
    return Reading(tuple(messages), "cut")


def _is_prompt(record: Record) -> bool:
    is_asked = isinstance(record.get("prompt"), str | list)
    return is_asked and any(record.get(column) is not None for column in _ANSWER_COLUMNS)


def _prompt(record: Record) -> Reading:
    """A prompt and its answer, each a text or a list of messages; how it went on is unknown."""
    answer = next(c for c in _ANSWER_COLUMNS if record.get(c) is not None)
    messages = (*_side(record, "prompt", "user"), *_side(record, answer, "assistant"))
    return Reading(messages, "cut", persons=_persons(record))


def _side(record: Record, column: str, role: Role) -> tuple[Message, ...]:
    if isinstance(record[column], str):
        return (said(role, record[column]),)
    return spoken(rows_in(record, column), ("role", "content"), _OUR_ROLES)


def _of_a_tree(_record: Record) -> Reading:
    raise AssertionError("a tree's messages are put together by usersim.sources.trees")


LAYOUTS: dict[Shape, Layout] = {
    "messages": Layout(_has("messages"), _plain, "`messages` with a list"),
    "sharegpt": Layout(_has("conversations"), _sharegpt, "`conversations` with a list"),
    "wildchat": Layout(_is_wildchat, _conversation, "`conversation` with `conversation_hash`"),
    "lmsys": Layout(_is_lmsys, _conversation, "`conversation` with `conversation_id`"),
    "oasst": Layout(is_tree, _of_a_tree, "`message_id` with `parent_id`, or `prompt.replies`"),
    "prism": Layout(_has("conversation_history"), _prism, "`conversation_history` with a list"),
    "ultrachat": Layout(_is_ultrachat, _ultrachat, "`data` of texts"),
    "baize": Layout(_is_baize, _baize, "`input` with [|Human|]"),
    "prompt": Layout(_is_prompt, _prompt, "`prompt` with `completion` or `response`"),
}
"""By name, the plainest first: it is taken where several find the same conversation."""
