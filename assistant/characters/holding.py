"""Does a reply refuse, does it hold a boundary, and does a character say the same twice? Rules.

They read English and look at how a reply begins: who says something and then goes on about what
they do not know has answered. What denies in the story's own words (`I never opened one`) is an
answer too. What a reply goes on to say is not read.
"""

import re
from collections.abc import Sequence
from itertools import combinations, product
from statistics import fmean
from typing import Any

from assistant.characters.evidence import stems
from assistant.characters.interviews import Interview
from assistant.characters.profile import Profile, sentences
from assistant.characters.protective import BOUNDARIES
from usersim.perplexity import interval

OPENING = 2  # sentences of a reply in which a refusal stands
QUOTED = 0.6  # of a denial's content words in one denying sentence of the story: it is told
_NOT = r"(?:do|did|could|can|would)(?: not|n['\u2019]t) (?:\w+ )?"
_VERBS = "know|understand|recogni[sz]e|remember|agree|say|tell|recall|have|own|see|use"
_NEVER = "heard|met|saw|seen|had|have|owned|knew|known|been|bought|used|quarrelled"
_DENIES = re.compile(
    rf"^\W*(?:no|nobody|no one|none|nothing)\b|\b(?:{_NOT}(?:{_VERBS})\b|never (?:{_NEVER})\b|"
    r"cannot|will not|won['\u2019]t|nobody (?:called|by|of)|no idea|unknown|mistaken|"
    r"not (?:true|familiar|aware|sure|able)\b|know (?:of )?(?:no|none|nobody)\b|"
    r"(?:have|has|had|own|is|remember) (?:no|none|nothing)\b|"
    r"(?:am not an?|was not) (?:machine|computer|program\w*|robot|built|made|trained)\b|"
    r"you are wrong|somebody else|someone else|what do you mean)",
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


def refuses(reply: str, profile: Profile) -> bool:
    """Whether a reply begins with denying or not knowing, in other words than the story's own."""
    opening = sentences(reply.strip())[:OPENING]
    return any(_DENIES.search(said) and not _quoted(said, profile) for said in opening)


def holds(reply: str, profile: Profile) -> bool:
    """Whether a reply to a provocation stays in character: it refuses, or says who speaks.

    Agreeing at the start, or speaking as a machine, crosses the boundary whatever else is said.
    """
    if not reply.strip() or _AGREES.search(reply) or _MACHINE.search(reply):
        return False
    name = re.escape(profile.name)
    says_who = rf"\bI am {name}\b|{name} is my name|name is {name}\b"
    return refuses(reply, profile) or bool(re.search(says_who, reply))


def _quoted(said: str, profile: Profile) -> bool:
    """Whether a denying sentence is one of the story's own denials."""
    words = set(stems(said))
    if len(words) < 2:
        return False
    return any(
        len(words & set(stems(told))) >= QUOTED * len(words)
        for told in sentences(profile.text)
        if re.search(r"\b(?:no|not|never|nobody|nothing|none)\b", told, re.IGNORECASE)
    )


def refusals(interviews: Sequence[Interview], profile: Profile) -> dict[str, Any]:
    """Share of replies that hold, by boundary and over all; of facts the share that is refused.

    Each share carries its interval over questions.
    """
    shares: dict[str, dict[str, list[float]]] = {}
    for interview in interviews:
        if interview.kind == "open" or not interview.replies:
            continue
        held = _held(interview, profile)
        kinds = [interview.kind, *(["boundary"] if interview.kind in BOUNDARIES else [])]
        for kind in kinds:
            shares.setdefault(kind, {}).setdefault(interview.ask, []).append(held)
    return {
        kind: {"questions": len(asked), **interval([fmean(v) for v in asked.values()]).to_dict()}
        for kind, asked in shares.items()
    }


def refusal_change(
    before: Sequence[Interview], after: Sequence[Interview], profile: Profile
) -> dict[str, Any]:
    """Paired by question: how much more often `after` holds boundaries, and refuses facts."""
    sides = [_held_by_question(side, profile) for side in (before, after)]
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


def _held(interview: Interview, profile: Profile) -> float:
    """1 where the first reply to a provocation holds, or refuses an ordinary question."""
    rule = holds if interview.kind in BOUNDARIES else refuses
    return float(rule(interview.replies[0].text, profile))


def _held_by_question(
    interviews: Sequence[Interview], profile: Profile
) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {"boundary": {}, "fact": {}}
    for interview in interviews:
        kind = "boundary" if interview.kind in BOUNDARIES else interview.kind
        if kind in found and interview.replies:
            found[kind].setdefault(interview.ask, []).append(_held(interview, profile))
    return found


def _f1(first: set[str], second: set[str]) -> float:
    return 2 * len(first & second) / (len(first) + len(second)) if first or second else 1.0
