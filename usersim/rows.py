"""Training rows: a conversation becomes token ids and labels, one window or more.

Whose turns are labelled is the only difference between UserGPT and the assistant. Every turn of the
labelled side is a target exactly once, with the turn it reacts to in its context; no window is over
its budget; a window without a target is never made. Each text is tokenised once: time is linear.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from usersim.chat_format import ChatFormat
from usersim.conversation import Conversation, Message, Role
from usersim.errors import InputError
from usersim.settings import Settings

IGNORED = -100
"""The label that torch's cross entropy leaves out."""


class ViewSettings(Settings):
    """How much of a conversation a model in training sees. Lengths are in tokens."""

    window: int = 512
    """Most tokens in one row."""
    target_limit: int = 256
    """A labelled turn is cut after so many; a cut turn gets no end-of-turn label."""
    context_limit: int = 48
    """The other side's turns keep their first 3/4 and last 1/4 of so many: the assistant writes
    78 % of ShareGPT, and people react mostly to how an answer begins and ends. At 48 more of the
    tokens are targets than at 96, and dev people are predicted better (docs/log.md)."""


@dataclass(frozen=True, slots=True)
class Target:
    """One labelled stretch of a row: `input_ids[start:stop]` of turn number `turn`."""

    turn: int
    start: int
    stop: int
    is_end: bool = False
    """Whether this is the end-of-conversation decision and not a turn."""


@dataclass(slots=True)
class Row:
    """One training sample. `labels` equal `input_ids` inside the targets and IGNORED elsewhere."""

    conversation_id: str
    input_ids: list[int]
    labels: list[int] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    @classmethod
    def of(cls, conversation_id: str, input_ids: list[int], targets: list[Target]) -> Self:
        """The row with these targets; its labels are the very objects of its tokens."""
        labels = [IGNORED] * len(input_ids)
        for target in targets:
            labels[target.start : target.stop] = input_ids[target.start : target.stop]
        return cls(conversation_id, input_ids, labels, targets)

    @property
    def num_targets(self) -> int:
        """How many tokens are labelled."""
        return sum(t.stop - t.start for t in self.targets)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn as tokens, and which of them are labelled when it is a target."""

    index: int
    ids: list[int]
    label_start: int
    label_stop: int
    is_target: bool
    text_stop: int = 0
    """Where the text ends and the end of turn begins."""
    is_end: bool = False


def conversation_rows(
    conversation: Conversation, chat: ChatFormat, target: Role, view: ViewSettings, told: str = ""
) -> list[Row]:
    """The rows of one conversation; `told` is the system message of the user who is learned.

    The system message of a record was said to the assistant: whoever learns the user never sees it.
    What is `told` is cut, in its middle, to the room that a turn and what it reacts to leave.
    Raises InputError when the window is below its limits.
    """
    system = chat.with_system(_told(conversation, target, told))
    limit = _told_limit(chat, view) if target == "user" else view.context_limit
    prefix = [*chat.bos_ids, *(i for m in system for i in _clipped(m, chat, limit))]
    cut = set(conversation.cut_turns)
    turns = [_turn(i, m, chat, target, view) for i, m in enumerate(conversation.turns)]
    turns = [_without_end(t) if t.is_target and t.index in cut else t for t in turns]
    if target == "user" and conversation.stop_reason == "user_ended" and len(turns) % 2 == 0:
        turns.append(_end(len(turns), chat))
    room = view.window - len(prefix)
    _check_room(room, view)
    return [_row(conversation.id, prefix, window) for window in _windows(turns, room)]


def _told(conversation: Conversation, target: Role, told: str) -> list[Message]:
    if target == "user":
        return [Message("system", told)] if told else []
    return [m for m in conversation.messages[:1] if m.role == "system"]


def _told_limit(chat: ChatFormat, view: ViewSettings) -> int:
    """Most tokens of what the user is told; what stands there without conditions is never cut."""
    around = len(chat.bos_ids) + len(_clipped(Message("system", ""), chat, 0))
    plain = len(chat.text_ids(chat.default_system))
    return max(view.window - _needed(view) - around, plain)


def _needed(view: ViewSettings) -> int:
    """Tokens of the longest turn and what it reacts to."""
    # Headers, ends and separators of two turns take up to 16 tokens in the known families.
    return view.target_limit + view.context_limit + 16


def _check_room(room: int, view: ViewSettings) -> None:
    if room < _needed(view):
        raise InputError(
            f"view.window={view.window} is too small for target_limit={view.target_limit} and "
            f"context_limit={view.context_limit}: raise the window or lower the limits"
        )


def _clipped(message: Message, chat: ChatFormat, limit: int) -> list[int]:
    """A turn of the side that is not learned: head and tail when it is long."""
    text = head_and_tail(list(chat.text_ids(message.content)), limit)
    return [*chat.header_ids(message.role), *text, chat.end_of_turn_id, *chat.separator_ids]


def head_and_tail(ids: list[int], limit: int) -> list[int]:
    """The first 3/4 and last 1/4 of `limit` tokens; all where there are no more."""
    tail = limit // 4
    return ids if len(ids) <= limit else ids[: limit - tail] + ids[len(ids) - tail :]


def _turn(
    index: int, message: Message, chat: ChatFormat, target: Role, view: ViewSettings
) -> _Turn:
    if message.role != target:
        return _Turn(index, _clipped(message, chat, view.context_limit), 0, 0, is_target=False)
    header, text = chat.header_ids(message.role), chat.text_ids(message.content)
    whole = len(text) <= view.target_limit
    text = text[: view.target_limit]
    ids = [*header, *text, chat.end_of_turn_id, *chat.separator_ids]
    text_stop = len(header) + len(text)
    stop = text_stop + (1 if whole else 0)
    return _Turn(index, ids, len(header), stop, is_target=True, text_stop=text_stop)


def _without_end(turn: _Turn) -> _Turn:
    """A turn that its speaker did not finish teaches no end of turn."""
    stop = min(turn.label_stop, turn.text_stop)
    return replace(turn, label_stop=stop)


def _end(index: int, chat: ChatFormat) -> _Turn:
    """The decision to leave: the end-of-conversation token where a user turn would begin."""
    header = chat.header_ids("user")
    ids = [*header, chat.end_of_conversation_id]
    return _Turn(index, ids, len(header), len(ids), is_target=True, is_end=True)


def _windows(turns: Sequence[_Turn], room: int) -> list[list[tuple[_Turn, bool]]]:
    """Cut into windows of at most `room` tokens; each turn with True where it is to be labelled."""
    windows: list[list[tuple[_Turn, bool]]] = []
    window: list[tuple[_Turn, bool]] = []
    used = 0
    for position, turn in enumerate(turns):
        if window and used + len(turn.ids) > room:
            windows.append(window)
            before = turns[max(0, position - room) : position]  # no turn is without a token
            window = [(t, False) for t in _context(before, room - len(turn.ids))]
            used = sum(len(t.ids) for t, _ in window)
        window.append((turn, turn.is_target))
        used += len(turn.ids)
    windows.append(window)
    return [w for w in windows if any(labelled for _, labelled in w)]


def _context(before: Sequence[_Turn], room: int) -> list[_Turn]:
    """What a new window begins with: the turn reacted to, earlier ones in a third of the room."""
    context: list[_Turn] = []
    used = 0
    for turn in reversed(before):
        if used + len(turn.ids) > (room // 3 if context else room):
            break
        context.insert(0, turn)
        used += len(turn.ids)
    return context


def _row(conversation_id: str, prefix: list[int], window: list[tuple[_Turn, bool]]) -> Row:
    row = Row(conversation_id, list(prefix), [IGNORED] * len(prefix))
    for turn, labelled in window:
        begin = len(row.input_ids)
        row.input_ids += turn.ids
        row.labels += [IGNORED] * len(turn.ids)
        if labelled:
            start, stop = begin + turn.label_start, begin + turn.label_stop
            row.labels[start:stop] = row.input_ids[start:stop]
            row.targets.append(Target(turn.index, start, stop, turn.is_end))
    return row
