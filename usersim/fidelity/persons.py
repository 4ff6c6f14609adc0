"""Who is compared: persons with their conversations; their turns, and halves of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from usersim.conversation import Conversation
from usersim.surface import stable_hash

LAST_TURN = 5
"""Turns with this number or a higher one share a group."""


def _numbered(number: int) -> Callable[[int], bool]:
    return lambda index: min(index + 1, LAST_TURN) == number


PARTS: dict[str, Callable[[int], bool]] = {
    "first": lambda index: index == 0,
    "later": lambda index: index > 0,
}
BY_TURN = {f"{n}{'+' if n == LAST_TURN else ''}": _numbered(n) for n in range(1, LAST_TURN + 1)}
"""Groups of a conversation's user turns by their index: first, later; by number from 1."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One user turn: its text, its number among the user turns of its conversation, whose it is."""

    text: str
    index: int
    person: int
    """Position of the person among those whose turns were asked for."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, real or simulated, with all conversations that are known to be theirs."""

    id: str
    conversations: tuple[Conversation, ...]


def persons_of(
    conversations: Iterable[Conversation], person_of: Mapping[str, str] | None = None
) -> list[Person]:
    """Persons in order of their id; a conversation that `person_of` doesn't know is a person's own.

    `person_of` maps a conversation's id to the person who held it.
    """
    known, groups = person_of or {}, dict[str, list[Conversation]]()
    for conversation in conversations:
        groups.setdefault(known.get(conversation.id, conversation.id), []).append(conversation)
    return [Person(name, tuple(groups[name])) for name in sorted(groups)]


def conversations_of(persons: Iterable[Person]) -> list[Conversation]:
    """All their conversations."""
    return [conversation for person in persons for conversation in person.conversations]


def turns_of(persons: Sequence[Person], max_turns: int | None = None) -> list[Turn]:
    """Their user turns, of each conversation the first `max_turns` (None: all)."""
    return [
        Turn(text, index, number)
        for number, person in enumerate(persons)
        for conversation in person.conversations
        for index, text in enumerate(conversation.user_turns[:max_turns])
    ]


def shuffled(persons: Sequence[Person], salt: int = 0) -> list[Person]:
    """In an order that depends on ids and `salt` alone."""
    return sorted(persons, key=lambda p: stable_hash(p.id, salt))


def halves(persons: Sequence[Person], salt: int = 0) -> tuple[list[Person], list[Person]]:
    """Two disjoint halves, equal to within one; who is where depends on ids and `salt` alone."""
    ordered = shuffled(persons, salt)
    middle = len(ordered) // 2
    return ordered[:middle], ordered[middle:]
