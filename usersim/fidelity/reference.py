"""The real people that simulated users are held against, from a file or any source."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usersim.cleaning import Cleaner, CleaningSettings
from usersim.conversation import Conversation, Rejection
from usersim.errors import InputError
from usersim.fidelity.persons import Person, persons_of, shuffled
from usersim.files import is_ours, read_conversations, read_json
from usersim.language import language_id
from usersim.merging import merge
from usersim.people import PERSONS, SURE, as_conversation
from usersim.sources import Draft, Source, SourceSettings

FEWEST_PERSONS = 4
"""Fewer cannot be halved into groups of more than one."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Real people, and who was left out on the way to them."""

    persons: list[Person]
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Records that could not be used, by reason."""
    known_to_model: int = 0
    """Conversations left out because the model learned from them."""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in fidelity.json."""
        return {
            "persons": len(self.persons),
            "conversations": sum(len(p.conversations) for p in self.persons),
            "user_turns": sum(len(c.user_turns) for p in self.persons for c in p.conversations),
            "rejected": dict(self.rejected),
            "known_to_model": self.known_to_model,
        }


def read_reference(
    name: str, training: Sequence[Conversation] = (), limit: int | None = None
) -> Reference:
    """The real people of a source: a split of a run, a file or folder, or a source's name.

    Records are read, joined and cleaned as `realchat ingest` does it, but none is dropped as a
    duplicate: people do repeat each other. Whoever is among `training`, by id or by what they
    typed, is left out: held out means held out. At most `limit` persons, by the hash of their ids.
    Raises InputError when there is no such source, or fewer than four persons are left.
    """
    conversations, person_of, rejected = _read(name)
    ids = {c.id for c in training}
    typed = {tuple(c.user_turns) for c in training}
    unknown = [c for c in conversations if c.id not in ids and tuple(c.user_turns) not in typed]
    persons = shuffled(persons_of(unknown, person_of))[:limit]
    known = len(conversations) - len(unknown)
    if len(persons) < FEWEST_PERSONS:
        reasons = ", ".join(f"{reason} {n}" for reason, n in rejected.items()) or "none"
        raise InputError(
            f"{name} has {len(persons)} usable persons, fidelity needs {FEWEST_PERSONS} or more: "
            f"{known} were in the model's training, rejected: {reasons}"
        )
    return Reference(persons, rejected, known)


def _read(name: str) -> tuple[list[Conversation], dict[str, str], dict[str, int]]:
    """Conversations, the person of those whose source tells, and rejected records by reason."""
    path = Path(name)
    if path.is_file() and is_ours(path):
        persons = path.with_name(PERSONS)
        return read_conversations(path), read_json(persons) if persons.is_file() else {}, {}
    found = list(Source(SourceSettings(source=name)))
    drafts = [record for record in found if isinstance(record, Draft)]
    bad = [record for record in found if isinstance(record, Rejection)]
    merged = merge(drafts, [r.id for r in bad])
    cleaner = Cleaner(CleaningSettings())
    cleaned = [as_conversation(cleaner.clean(draft)) for draft in merged.conversations]
    people = [result for result in cleaned if isinstance(result, Conversation)]
    bad += [*merged.rejected, *(r for r in cleaned if isinstance(r, Rejection))]
    reasons = Counter(rejection.reason for rejection in bad)
    return people, _persons(merged.conversations), dict(sorted(reasons.items()))


def _persons(drafts: Iterable[Draft]) -> dict[str, str]:
    """By conversation the first person that its source names."""
    return {draft.id: f"person {draft.persons[0]}" for draft in drafts if draft.persons}


def of_other_languages(persons: Sequence[Person], language: str | None) -> int:
    """How many write surely in another language, by all that they typed; 0 where any is meant."""
    if language is None:
        return 0
    typed = ["\n".join(t for c in p.conversations for t in c.user_turns) for p in persons]
    found = language_id().detect(typed)
    return sum(told.code != language and told.probability >= SURE for told in found)


def set_aside(persons: Sequence[Person], share: int = 10) -> tuple[list[Person], list[Person]]:
    """(a tenth to choose on, the others to report on); nobody is on both sides."""
    ordered = shuffled(persons, salt=share)
    number = max(2, len(ordered) // share)
    return ordered[:number], ordered[number:]
