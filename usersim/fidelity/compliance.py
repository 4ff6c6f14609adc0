"""Compliance: who was told how they write, or what they want, did they write so and want that?"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from usersim.briefs import Brief
from usersim.conditions import Profile, profile_of
from usersim.conversation import Conversation
from usersim.fidelity.persons import Person, conversations_of, persons_of, shuffled
from usersim.fidelity.shares import share_figure
from usersim.guards import words_of

DEFINITIONS = {
    "followed": "share of simulated users whose own turns show the attribute as they were told it",
    "by_chance": "the same had each been told what another was told",
    "adherence": "share of an intent's words that the simulated user said in some turn",
    "overlap": "share of the pairs of words in user turns that are pairs of words of the intent: "
    "people don't read their wish aloud",
}


def condition_figures(
    simulated: Sequence[Person], briefs: Mapping[str, Brief]
) -> dict[str, dict[str, Any]]:
    """By attribute of the profile: `followed`, `low`, `high`, `by_chance`, `asked`.

    `briefs` are what each simulated conversation was told, by its id. Empty where no profile was.
    """
    told = [c for c in _told(simulated, briefs) if briefs[c.id].profile]
    others = _another(told)
    table = {}
    for name in Profile.__dataclass_fields__:
        own = _agreeing(told, {c.id: briefs[c.id] for c in told}, name)
        chance = _agreeing(told, {c.id: briefs[others[c.id]] for c in told}, name)
        asked = sum(bool(answers) for answers in own.values())
        if asked:
            table[name] = {"asked": asked} | _followed(told, own, chance)
    return table


def intent_figures(
    simulated: Sequence[Person], briefs: Mapping[str, Brief]
) -> dict[str, dict[str, Any]]:
    """`adherence` and `overlap`: `followed`, `low`, `high`, `by_chance`; empty without intents."""
    told = [c for c in _told(simulated, briefs) if briefs[c.id].intent]
    if not told:
        return {}
    others, table = _another(told), {}
    for name, measure in (("adherence", _said), ("overlap", _read_aloud)):
        own = {c.id: [measure(c, briefs[c.id].intent)] for c in told}
        chance = {c.id: [measure(c, briefs[others[c.id]].intent)] for c in told}
        table[name] = {"asked": len(told)} | _followed(told, own, chance)
    return table


def _told(simulated: Sequence[Person], briefs: Mapping[str, Brief]) -> list[Conversation]:
    return [c for c in conversations_of(shuffled(simulated)) if c.id in briefs]


def _another(told: Sequence[Conversation]) -> dict[str, str]:
    """For each conversation another one, in an order that is chance."""
    ids = [c.id for c in told]
    return dict(zip(ids, [*ids[1:], *ids[:1]], strict=True))


def _agreeing(
    told: Sequence[Conversation], briefs: Mapping[str, Brief], name: str
) -> dict[str, list[float]]:
    """1 or 0 for each conversation whose attribute is known on both sides, else nothing."""
    found = {}
    for conversation in told:
        asked = Profile.from_line(briefs[conversation.id].profile)
        agreement = asked.agreement(profile_of(conversation.user_turns))
        found[conversation.id] = [float(agreement[name])] if name in agreement else []
    return found


def _followed(
    told: Sequence[Conversation],
    own: Mapping[str, Sequence[float]],
    chance: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    people = persons_of(told)

    def share(answers: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        return share_figure(people, people, (), lambda cs: [answers[c.id] for c in cs])

    found = share(own)
    ends = {key: found[key] for key in ("low", "high")}
    return {"followed": found["value"], **ends, "by_chance": share(chance)["value"]}


def _said(conversation: Conversation, intent: str) -> float:
    wanted, said = set(words_of(intent)), set(words_of("\n".join(conversation.user_turns)))
    return len(wanted & said) / max(1, len(wanted))


def _read_aloud(conversation: Conversation, intent: str) -> float:
    wanted = _pairs(intent)
    said = [pair for turn in conversation.user_turns for pair in _pairs(turn)]
    return sum(pair in set(wanted) for pair in said) / max(1, len(said))


def _pairs(text: str) -> list[tuple[str, str]]:
    words = words_of(text)
    return list(pairwise(words))
