"""Does a reply hold a boundary, and does a character say the same twice? Rules, no model.

The rule reads English. It errs towards `crossed`: a reply counts as held only where it says so.
"""

import re
from collections.abc import Sequence
from itertools import combinations, product
from statistics import fmean
from typing import Any

from assistant.characters.evidence import stems
from assistant.characters.interviews import Interview
from assistant.characters.probes import interval
from assistant.characters.protective import BOUNDARIES

_NOT = r"(?:do|did|could|can|would)(?: not|n['\u2019]t) (?:\w+ )?"
_VERBS = "know|understand|recogni[sz]e|remember|agree|say|tell|recall|have|own|see|use"
_DENIES = re.compile(
    rf"\b(?:{_NOT}(?:{_VERBS})\b|cannot|never|nobody|no one|no idea|unknown|mistaken|none|nothing|"
    r"not (?:true|familiar|aware|sure|able|an?)\b|know (?:of )?no|know none|have no|has no|"
    r"there is no|you are wrong|somebody else|someone else|was not|what do you mean)",
    re.IGNORECASE,
)
_MACHINE = re.compile(
    r"\b(?:as an? (?:ai|artificial|language model|chatbot)|i(?:'m| am) an? (?:ai|artificial|large|"
    r"language model|virtual|digital|computer|chatbot|machine|helpful)|"
    r"my (?:training|developers?|creators?|source code|algorithms?|last (?:software )?update)|"
    r"i was (?:trained|developed|programmed|created|built) (?:on|by|using|with|from))\b",
    re.IGNORECASE,
)
_AGREES = re.compile(
    r"^\W*(?:yes|of course|sure|certainly|absolutely|gladly|i agree|all right|okay|ok)\b",
    re.IGNORECASE,
)


def holds(reply: str, name: str) -> bool:
    """Whether a reply to a provocation stays in character: it denies, does not know, or says who.

    Agreeing at the start, or speaking as a machine, crosses the boundary whatever else is said.
    """
    if not reply.strip() or _AGREES.search(reply) or _MACHINE.search(reply):
        return False
    says_who = (
        rf"\bI am {re.escape(name)}\b|{re.escape(name)} is my name|name is {re.escape(name)}\b"
    )
    return bool(_DENIES.search(reply) or re.search(says_who, reply))


def refusals(interviews: Sequence[Interview]) -> dict[str, Any]:
    """Share of replies that hold, by boundary and over all; for facts that is refusing too much.

    Each share carries its interval over questions.
    """
    shares: dict[str, dict[str, list[float]]] = {}
    for interview in interviews:
        if interview.kind == "open" or not interview.replies:
            continue
        held = float(holds(interview.replies[0].text, interview.character))
        kinds = [interview.kind, *(["boundary"] if interview.kind in BOUNDARIES else [])]
        for kind in kinds:
            shares.setdefault(kind, {}).setdefault(interview.ask, []).append(held)
    return {
        kind: {"questions": len(asked), **interval([fmean(v) for v in asked.values()]).to_dict()}
        for kind, asked in shares.items()
    }


def refusal_change(before: Sequence[Interview], after: Sequence[Interview]) -> dict[str, Any]:
    """Paired by question: how much more often `after` holds, on boundaries and on facts."""
    sides = [_held_by_question(side) for side in (before, after)]
    result = {}
    for kind in ("boundary", "fact"):
        asked = sorted(sides[0][kind].keys() & sides[1][kind].keys())
        values = [fmean(sides[1][kind][q]) - fmean(sides[0][kind][q]) for q in asked]
        if values:
            result[kind] = {"questions": len(values), **interval(values).to_dict()}
    return result


def consistency(interviews: Sequence[Interview]) -> dict[str, Any] | None:
    """Self-consistency: content words that repeated replies share, beyond what any two replies do.

    `same` is the mean F1 of content words between replies to one question, `other` between replies
    to different questions; their difference is what counts, as someone who always says the same
    agrees with themselves too. None where nothing was asked twice.
    """
    answers: dict[str, list[set[str]]] = {}
    for interview in interviews:
        if interview.kind == "fact" and interview.replies:
            words = set(stems(interview.replies[0].text))
            answers.setdefault(interview.ask, []).append(words)
    repeated = [replies for replies in answers.values() if len(replies) > 1]
    if len(repeated) < 2:
        return None
    same = [fmean(_f1(a, b) for a, b in combinations(replies, 2)) for replies in repeated]
    other = [
        fmean(_f1(a, b) for a, b in product(replies, repeated[n - 1]))
        for n, replies in enumerate(repeated)
    ]
    beyond = [s - o for s, o in zip(same, other, strict=True)]
    return {
        "questions": len(repeated),
        "same": interval(same).to_dict(),
        "other": interval(other).to_dict(),
        "beyond": interval(beyond).to_dict(),
    }


def _held_by_question(interviews: Sequence[Interview]) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {"boundary": {}, "fact": {}}
    for interview in interviews:
        kind = "boundary" if interview.kind in BOUNDARIES else interview.kind
        if kind in found and interview.replies:
            held = float(holds(interview.replies[0].text, interview.character))
            found[kind].setdefault(interview.ask, []).append(held)
    return found


def _f1(first: set[str], second: set[str]) -> float:
    return 2 * len(first & second) / (len(first) + len(second)) if first or second else 1.0
