"""Semantic duplicates: what static embeddings find of paraphrases, and what they take for one.

    python -m benchmarks.semantic [--model wordllama] [--openers 4000]

40 questions of our own (benchmarks/paraphrases.jsonl), each with a paraphrase and with another
question in nearly the same words. Beside them openers of real people of the embedded conversations:
how many in a thousand have an earlier one alike that MinHash does not find, at each threshold.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.filters import drafts, hash_of
from benchmarks.machine import machine
from pipelines.semantic import embed, semantic_pairs
from pipelines.spread import in_turn
from usersim.neardup import near_duplicate_pairs
from usersim.shingling import Shingling

ROWS = Path(__file__).with_name("paraphrases.jsonl")
THRESHOLDS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


class _Vectors:
    """A part that holds vectors alone."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors

    def matrix(self, name: str) -> np.ndarray:
        return self._vectors


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="wordllama")
    parser.add_argument("--openers", type=int, default=4000)
    parser.add_argument("--show", type=int, default=0, help="pairs of real openers to look at")
    chosen = parser.parse_args()
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
    asked, same, other = (
        embed([row[key] for row in rows], chosen.model) for key in ("asked", "same", "other")
    )
    known = sorted(drafts().values(), key=lambda d: hash_of(d.id))
    first = (next((m.content for m in d.messages if m.role == "user"), "") for d in known)
    distinct = dict.fromkeys(text for text in first if len(text.split()) > 4)
    openers = list(distinct)[: chosen.openers]
    began = time.process_time()
    vectors = embed(openers, chosen.model)
    embedded = time.process_time() - began
    part, places = _Vectors(vectors), np.arange(len(openers))
    began = time.process_time()
    found = semantic_pairs([part], min(THRESHOLDS), places, in_turn)
    compared = time.process_time() - began
    worded = {(p.left, p.right) for p in near_duplicate_pairs(openers, 0.6, Shingling(3))}
    table = {}
    for threshold in THRESHOLDS:
        pairs = found.pairs[found.jaccard >= threshold].tolist()
        new = [pair for pair in pairs if tuple(pair) not in worded]
        table[threshold] = {
            "paraphrases_found": float(((asked * same).sum(1) >= threshold).mean()),
            "others_flagged": float(((asked * other).sum(1) >= threshold).mean()),
            "real_openers_only_semantic_per_thousand": round(
                1000 * len({pair[1] for pair in new}) / len(openers), 2
            ),
        }
        print(threshold, json.dumps(table[threshold]))
        for left, right in new[:: max(1, len(new) // max(1, chosen.show))][: chosen.show]:
            print(f"    {openers[left][:90]!r}\n  = {openers[right][:90]!r}")
    print(json.dumps({
        "benchmark": "semantic", "model": chosen.model, "questions": len(rows),
        "openers": len(openers), "thresholds": table,
        "embedded_per_cpu_s": round(len(openers) / embedded),
        "compared_pairs_per_cpu_s": round(len(openers) ** 2 / 2 / compared),
        "bytes_a_row": int(vectors[0].nbytes), "machine": machine(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
