"""Evidence: the paragraphs of the whole story that bear on a text, by BM25."""

import math
import re
from collections import Counter

from assistant.characters.profile import Paragraph, Profile

# Robertson & Zaragoza, "The Probabilistic Relevance Framework", 2009: usual values.
K1, B = 1.2, 0.75
_WORD = re.compile(r"\w+")
_COMMON = frozenset(
    _WORD.findall(
        """a an the and or but of in on at to for from with by as is was were are be been has had
        have do did does it its he she they his her their them him i you my your me we our that this
        which who what when where how why not no so if then than there about into over"""
    )
)


def stems(text: str) -> list[str]:
    """Content words, folded, without the commonest English endings."""
    words = (w for w in _WORD.findall(text.casefold()) if w not in _COMMON)
    return [re.sub(r"(?<=\w{3})(?:ies|ing|ed|es|s)$", "", w) for w in words]


def evidence(profile: Profile, text: str, most: int = 4) -> list[Paragraph]:
    """Up to `most` paragraphs, best first; all paragraphs of the story are looked at.

    Where no word of the text stands anywhere, the first paragraph says at least who it is about.
    """
    documents = [Counter(stems(f"{p.section} {p.text}")) for p in profile.paragraphs]
    mean = sum(d.total() for d in documents) / len(documents)
    holding = Counter(word for d in documents for word in d)
    scores = []
    for number, document in enumerate(documents):
        score = 0.0
        for word in set(stems(text)) & document.keys():
            rarity = math.log(1 + (len(documents) - holding[word] + 0.5) / (holding[word] + 0.5))
            weight = document[word] * (K1 + 1)
            score += rarity * weight / (document[word] + K1 * (1 - B + B * document.total() / mean))
        scores.append((-score, number))
    best = [profile.paragraphs[n] for score, n in sorted(scores)[:most] if score < 0]
    return best or [profile.paragraphs[0]]
