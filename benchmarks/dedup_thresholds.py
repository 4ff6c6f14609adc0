"""Which threshold finds edited copies? Real texts of chat size, a share of their words replaced.

    .venv/bin/python -m benchmarks.dedup_thresholds

For openers and user sides of the embedded conversations, by words in a shingle and threshold: the
share of 1,500 edited copies that are found at 2, 5, 8 and 12 % of the words, and how many pairs of
different real texts are called alike. One JSON line each, counters only.
"""

import json
import random
from collections.abc import Sequence

from usersim.neardup import alike
from usersim.shingling import Shingling
from usersim.sources import Source, SourceSettings
from usersim.sources.draft import Draft

COPIES = 1_500
SHARES = (0.02, 0.05, 0.08, 0.12)
CHOICES = ((5, 0.8), (3, 0.8), (3, 0.7), (3, 0.6), (3, 0.5))


def main() -> None:
    """Print the table."""
    draw = random.Random(3)
    sides = [
        [m.content for m in draft.messages if m.role == "user"]
        for draft in Source(SourceSettings())
        if isinstance(draft, Draft)
    ]
    for name, texts in {
        "opener": [turns[0] for turns in sides if turns],
        "user_side": ["\n".join(turns) for turns in sides if turns],
    }.items():
        different = [t for t in dict.fromkeys(texts) if 5 <= len(t.split()) <= 400]
        draw.shuffle(different)
        for words, threshold in CHOICES:
            print(json.dumps({"unit": name, **row(different, words, threshold, draw)}), flush=True)


def row(
    different: Sequence[str], words: int, threshold: float, draw: random.Random
) -> dict[str, object]:
    """What one choice finds."""
    shingling, originals = Shingling(words), list(different[:COPIES])
    vocabulary = [word for text in different[:500] for word in text.split()]
    found = {}
    for share in SHARES:
        copies = [edited(text, share, vocabulary, draw) for text in originals]
        pairs = alike([*originals, *copies], threshold, shingling).pairs.tolist()
        hits = {left for left, right in pairs if right == left + len(originals)}
        found[f"{share:.0%}"] = round(len(hits) / len(originals), 3)
    real = len(alike(list(different), threshold, shingling).pairs)
    return {"words": words, "threshold": threshold, "found": found, "real_pairs": real}


def edited(text: str, share: float, vocabulary: Sequence[str], draw: random.Random) -> str:
    """The text with a share of its words, one at least, replaced by words of others."""
    words = text.split()
    for _ in range(max(1, round(share * len(words)))):
        words[draw.randrange(len(words))] = draw.choice(vocabulary)
    return " ".join(words)


if __name__ == "__main__":
    main()
