"""The one record that travels through every stage: a conversation of a user and an assistant."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from usersim.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)

StopReason = Literal[
    "user_ended",  # the user's own decision: an answer was there and they left
    "cut",  # a real conversation whose record breaks off before its end
    "max_rounds",  # the hard cap on rounds
    "token_budget",  # the next turn would not fit in the context
    "repetition",  # a speaker repeats an earlier turn
    "goodbye_loop",  # both sides say goodbye again and again
    "refusal_loop",  # the assistant refuses again and again
    "bad_turn",  # no acceptable turn within the allowed attempts
    "error",  # a deterministic engine error
]
STOP_REASONS: tuple[StopReason, ...] = get_args(StopReason)

SCHEMA_VERSION = 2  # 1 had neither character_id nor scene_id; its rows are read as they are


@dataclass(frozen=True, slots=True)
class Message:
    """Who spoke and what was said."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages that alternate user, assistant, ... after an optional system message; their lineage.

    Raises InputError when made from messages that do not alternate, are empty, or have unknown
    roles; `InputError.args[1]`, the reason, is one of `empty_conversation`, `unknown_role`,
    `misplaced_system`, `empty_turn`, `roles_do_not_alternate`.
    """

    id: str
    messages: tuple[Message, ...]
    source: str = ""
    license: str = ""
    stop_reason: StopReason | None = None
    user_model: str | None = None
    assistant_model: str | None = None
    recipe: str | None = None
    seed: int | None = None
    intent_id: str | None = None
    persona_id: str | None = None
    """Whom the user was, where that was made up."""
    character_id: str | None = None
    """The persona that the assistant played."""
    scene_id: str | None = None
    user_tokens: int | None = None
    assistant_tokens: int | None = None
    cut_turns: tuple[int, ...] = ()
    """Positions among the turns whose text the token limit broke off."""

    def __post_init__(self) -> None:
        check_messages(self.messages)

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages without the system message."""
        return self.messages[1:] if self.messages[0].role == "system" else self.messages

    @property
    def system(self) -> str | None:
        """The system message's text, or None."""
        return self.messages[0].content if self.messages[0].role == "system" else None

    @property
    def user_turns(self) -> list[str]:
        """Texts of the user, in order."""
        return [m.content for m in self.messages if m.role == "user"]

    @property
    def assistant_turns(self) -> list[str]:
        """Texts of the assistant, in order."""
        return [m.content for m in self.messages if m.role == "assistant"]

    @property
    def opener(self) -> str:
        """The first user message."""
        return self.turns[0].content

    @property
    def num_rounds(self) -> int:
        """How many user turns were answered."""
        return len(self.turns) // 2

    def to_row(self) -> dict[str, Any]:
        """A flat row of `conversation_schema()`; `from_row` undoes it exactly."""
        messages = [{"role": m.role, "content": m.content} for m in self.messages]
        row = {f.name: getattr(self, f.name) for f in fields(self)}
        return row | {"messages": messages, "cut_turns": list(self.cut_turns)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The conversation that a row holds; columns that are not ours are ignored."""
        known = {f.name for f in fields(cls)} - {"messages", "cut_turns"}
        return cls(
            messages=messages_from(row["messages"]),
            cut_turns=tuple(row.get("cut_turns") or ()),
            **{key: value for key, value in row.items() if key in known},
        )


def messages_from(rows: Iterable[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Messages made of `{role, content}` mappings; else InputError, reason malformed_message."""
    try:
        return tuple(Message(row["role"], row["content"]) for row in rows)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"a message needs `role` and `content`: {error}", "malformed_message"
        ) from error


def check_messages(messages: Sequence[Message]) -> None:
    """Raise InputError(message, reason) unless the messages are a conversation."""
    if not messages:
        raise InputError("a conversation needs at least one message", "empty_conversation")
    turns = messages[1:] if messages[0].role == "system" else messages
    if not turns:
        raise InputError("a conversation needs a user turn", "empty_conversation")
    for position, message in enumerate(turns):
        _check_turn(position, message)


def _check_turn(position: int, message: Message) -> None:
    if message.role not in ROLES:
        raise InputError(f"turn {position}: unknown role {message.role!r}", "unknown_role")
    if message.role == "system":
        raise InputError(
            f"turn {position}: a system message may only come first", "misplaced_system"
        )
    if not isinstance(message.content, str) or not message.content.strip():
        raise InputError(f"turn {position}: empty {message.role} turn", "empty_turn")
    expected = "user" if position % 2 == 0 else "assistant"
    if message.role != expected:
        raise InputError(
            f"turn {position}: {message.role} speaks where {expected} should",
            "roles_do_not_alternate",
        )


def conversation_schema() -> "pa.Schema":
    """The Arrow schema of a conversation row; `messages` first, so that viewers show it as chat."""
    import pyarrow as pa

    text, count = pa.string(), pa.int64()
    message = pa.struct([("role", text), ("content", text)])
    columns = [("messages", pa.list_(message)), ("id", text), ("source", text), ("license", text)]
    columns += [
        ("stop_reason", text),
        ("user_model", text),
        ("assistant_model", text),
        ("recipe", text),
    ]
    columns += [("seed", count), ("intent_id", text), ("persona_id", text)]
    columns += [("character_id", text), ("scene_id", text)]
    columns += [("user_tokens", count), ("assistant_tokens", count)]
    columns += [("cut_turns", pa.list_(count))]
    return pa.schema(columns, metadata={"realchat_schema_version": str(SCHEMA_VERSION)})


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that a stage did not keep, why, and the record itself (as JSON text)."""

    id: str
    stage: str
    reason: str
    detail: str
    record: str

    @classmethod
    def of(cls, conversation: Conversation, stage: str, reason: str, detail: str = "") -> Self:
        """The rejection of a whole conversation."""
        record = json.dumps(conversation.to_row(), ensure_ascii=False)
        return cls(conversation.id, stage, reason, detail, record)


def rejection_schema() -> "pa.Schema":
    """The Arrow schema of a rejected row."""
    import pyarrow as pa

    return pa.schema([(f.name, pa.string()) for f in fields(Rejection)])
