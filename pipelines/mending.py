"""What curation changes before it judges: mojibake is mended, personal data masked.

Everything else is kept or dropped as it is. What was changed is counted and tagged, so that no
changed row looks like an untouched one.
"""

from collections import Counter
from dataclasses import replace

from pipelines.filters import FilterSettings
from usersim import encoding, personal_data
from usersim.conversation import Conversation, Message

MENDED = frozenset({"encoding_damage", "personal"})
"""A conversation in which the rules of these names find nothing stays as it is."""


def mended(
    conversation: Conversation, settings: FilterSettings
) -> tuple[Conversation, dict[str, int]]:
    """The conversation under the recipe's policies, and how many places changed, by kind.

    Kinds are `encoding` (turns) and those of `usersim.personal_data` (places).
    """
    changes: Counter[str] = Counter()
    messages = tuple(_mended(message, settings, changes) for message in conversation.messages)
    return (replace(conversation, messages=messages) if changes else conversation), dict(changes)


def _mended(message: Message, settings: FilterSettings, changes: Counter[str]) -> Message:
    text = message.content
    if settings.encoding == "mend" and (better := encoding.mended(text)) != text:
        changes["encoding"] += 1
        text = better
    if settings.personal_data == "mask" and (found := settings.personal_places(text)):
        changes.update(place.kind for place in found)
        text = personal_data.mask(text, found)
    return message if text is message.content else Message(message.role, text)
