"""Planted benchmark questions: how many are found, and what is flagged that is none.

    python -m benchmarks.decontamination [--benchmark FILE] [--glue]

60 questions of our own (benchmarks/questions.jsonl), or a benchmark of yours, are planted verbatim
and with 10 and 20 % of their words replaced, deleted or followed by another, alone and amid real
talk. Then every turn of the embedded real conversations is asked about, against the same questions
and against openers of other real people (which are as ordinary as questions get). Beside it
stands MinHash containment: datasketch's MinHashLSHEnsemble over the same runs of three words, at
two thresholds, on the same planted texts and a part of the real turns.
"""

import argparse
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.filters import drafts, hash_of
from benchmarks.machine import machine
from pipelines.benchmark_sets import benchmark
from pipelines.decontamination import (
    CANDIDATE_WORDS,
    Benchmark,
    Contamination,
    DecontaminationSettings,
)
from usersim.shingling import Shingling, minhash, words

QUESTIONS = Path(__file__).with_name("questions.jsonl")
SHARES, TIMES, BATCH, OPENERS = (0.0, 0.1, 0.2), 5, 2000, 300
CONTAINMENTS, PERMUTATIONS, REAL = (0.3, 0.5), 128, 20_000


def edited(found: list[str], share: float, rng: random.Random, vocabulary: list[str]) -> str:
    """The words with a share of them replaced, deleted, or followed by another."""
    found = list(found)
    for i in rng.sample(range(len(found)), int(share * len(found))):
        other = rng.choice(vocabulary)
        found[i] = rng.choice([other, "", f"{found[i]} {other}"])
    return " ".join(found)


def recall(index: Contamination, talk: list[str]) -> dict[str, float]:
    """Share of planted questions that are found as themselves, by how they were planted."""
    rng = random.Random(7)
    vocabulary = [word for text in talk for word in words(text)]
    asked = [words(q) for q in index.benchmarks[0].questions]
    table = {}
    for share in SHARES:
        for amid in (False, True):
            hits = 0
            for _ in range(TIMES):
                planted = [edited(q, share, rng, vocabulary) for q in asked]
                if amid:
                    planted = [f"{rng.choice(talk)} {q} {rng.choice(talk)}" for q in planted]
                hits += sum(h is not None and h.question == i
                            for i, h in enumerate(index.find(planted)))  # fmt: skip
            table[f"{share:.0%} edited, {'amid talk' if amid else 'alone'}"] = round(
                hits / (TIMES * len(asked)), 4
            )
    return table


def by_minhash(
    index: Contamination, planted: list[list[str]], turns: list[str], threshold: float
) -> dict[str, float]:
    """What MinHash containment finds of the planted questions, and flags among real turns.

    A question is held by a text where the estimated share of its runs that the text has reaches
    the threshold: nothing is verified.
    """
    from datasketch import MinHashLSHEnsemble

    shape = Shingling(CANDIDATE_WORDS)
    texts = [text for times in planted for text in times] + turns
    began = time.process_time()
    ensemble = MinHashLSHEnsemble(threshold=threshold, num_perm=PERMUTATIONS, num_part=16)
    ensemble.index([(i, *sketched) for i, sketched in enumerate(sketches(shape, texts))])
    asked = sketches(shape, list(index.benchmarks[0].questions))
    hits = [set(ensemble.query(*sketched)) for sketched in asked]
    spent = time.process_time() - began
    number, real = sum(map(len, planted)), range(len(texts) - len(turns), len(texts))
    found = sum(i % len(asked) == q for q, held in enumerate(hits) for i in held if i < number)
    flagged = len(set().union(*hits).intersection(real))
    return {
        "threshold": threshold, "recall": round(found / number, 4), "real_turns": len(turns),
        "flagged": flagged, "texts_per_s": round(len(texts) / spent),
    }  # fmt: skip


def sketches(shape: Shingling, texts: list[str]) -> list[tuple[Any, int]]:
    """Of each text datasketch's MinHash, and how many runs it has."""
    sizes = shape.sets(texts).sizes.tolist()
    return list(zip(map(minhash, shape.sketches(texts, PERMUTATIONS).signatures), sizes,
                    strict=True))  # fmt: skip


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", default=str(QUESTIONS))
    parser.add_argument("--glue", action="store_true")
    chosen = parser.parse_args()
    known = sorted(drafts().values(), key=lambda d: hash_of(d.id))
    users = ["\n".join(m.content for m in d.messages if m.role == "user") for d in known]
    if chosen.glue:
        counts = Counter(word for text in users for word in set(words(text)))
        print(*[w for w, _ in counts.most_common(150) if not w.isdigit()][:120])
        return
    index = Contamination([benchmark(chosen.benchmark)], DecontaminationSettings())
    openers = [d.messages[0].content for d in known if d.messages and len(d.messages[0].content)]
    table = recall(index, [text[:400] for text in openers[:2000]])
    for name, value in table.items():
        print(f"{name:24} {value:.3f}")
    turns = [m.content for d in known for m in d.messages]
    began = time.process_time()
    found = [h for i in range(0, len(turns), BATCH) for h in index.find(turns[i : i + BATCH])]
    spent = time.process_time() - began
    false = sum(hit is not None for hit in found)
    print(f"flagged among {len(turns):,} real turns: {false}")
    people = Benchmark("people", tuple(openers[:OPENERS]))
    rng, asked = random.Random(7), [words(q) for q in index.benchmarks[0].questions]
    planted = [
        [edited(q, s, rng, words(talk)) for q in asked] for s in SHARES for talk in openers[:2]
    ]
    ours = sum(h is not None and h.question == i for texts in planted
               for i, h in enumerate(index.find(texts))) / sum(map(len, planted))  # fmt: skip
    estimated = [by_minhash(index, planted, turns[:REAL], at) for at in CONTAINMENTS]
    for row in estimated:
        print("MinHash containment {threshold}: recall {recall:.3f} (ours {ours:.3f}), "
              "{flagged} of {real_turns} real turns flagged".format(ours=ours, **row))  # fmt: skip
    others = {id(t) for t in openers[:OPENERS]}
    rest = [t for t in openers[OPENERS:] if id(t) not in others]
    like = Contamination([people], DecontaminationSettings()).find(rest)
    alike = sum(hit is not None for hit in like)
    print(f"{OPENERS} people's openers among {len(rest):,} other openers: {alike}")
    print(json.dumps({
        "benchmark": "decontamination", "questions": len(index.benchmarks[0].questions),
        "recall": table, "real_turns": len(turns), "flagged": false,
        "openers_as_benchmark": {"openers": OPENERS, "others": len(rest), "flagged": alike},
        "minhash": estimated, "same_planted_recall": round(ours, 4),
        "conversations_per_s": round(len(known) / spent), "machine": machine(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
