"""The same in other words: all pairs by cosine, whatever blocks, parts and workers they lie in."""

import builtins
import random
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_curate import conversation, run

from pipelines import semantic, traces
from pipelines.curate import CurateSettings
from pipelines.dedup import Candidate, DedupSettings, deduplicate
from pipelines.semantic import SemanticSettings, embed, semantic_pairs
from pipelines.spread import in_turn
from pipelines.traces import TraceShape
from usersim.errors import InputError, WorldError

OFF = dict.fromkeys(
    ("opener_threshold", "first_round_threshold", "conversation_threshold", "dialogue_threshold")
)


class Rows:
    """A part that holds vectors alone."""

    def __init__(self, vectors):
        self._vectors, self.num_rows = vectors, len(vectors)

    def matrix(self, name):
        assert name == semantic.EMBEDDING
        return self._vectors


def vectors(seed, number):
    """Directions in a plane of four dimensions: many near pairs, repeats, and a zero."""
    found = np.random.default_rng(seed).integers(-2, 3, (number, 4)).astype(float)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / np.where(lengths, lengths, 1)).astype(np.float32)


def by_hand(rows, threshold):
    found = {}
    for j, worse in enumerate(rows.astype(float)):
        for i, better in enumerate(rows[:j].astype(float)):
            lengths = float(np.sqrt((worse @ worse) * (better @ better)))
            cosine = float(better @ worse) / (lengths or 1.0)
            if round(cosine, 9) >= threshold:
                found[i, j] = min(cosine, 1.0)
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(0, 60), st.integers(1, 17), st.integers(1, 4), st.data())
def test_the_pairs_are_those_of_brute_force_in_any_blocks_and_parts(seed, n, block, cuts, data):
    rows = vectors(seed, n)
    edges = sorted(data.draw(st.lists(st.integers(0, n), min_size=cuts, max_size=cuts)))
    parts = [Rows(rows[a:b]) for a, b in zip([0, *edges], [*edges, n], strict=True)]
    order = np.random.default_rng(seed).permutation(n)
    threshold = data.draw(st.sampled_from([0.5, 0.8, 0.95, 1.0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic, "BLOCK", block)
        found = semantic_pairs(parts, threshold, order, in_turn)
    told = dict(zip(map(tuple, found.pairs.tolist()), found.jaccard.tolist(), strict=True))
    assert told == pytest.approx(by_hand(rows[order], threshold))


def test_a_row_is_paired_with_so_many_better_ones_the_best(monkeypatch):
    monkeypatch.setattr(semantic, "MOST", 3)
    monkeypatch.setattr(semantic, "BLOCK", 4)
    rows = np.tile(vectors(1, 1), (10, 1))
    pairs = semantic_pairs([Rows(rows)], 0.9, np.arange(10), in_turn).pairs.tolist()
    assert [sorted(i for i, j in pairs if j == k) for k in (2, 9)] == [[0, 1], [0, 1, 2]]


SAME = {"buy": "purchase", "car": "automobile", "cheap": "inexpensive", "fast": "quick"}


def synonyms(texts, model):
    """Stands for a model: words of one meaning have one direction."""
    found = np.zeros((len(texts), 512), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            found[row, crc32(SAME.get(word, word).encode()) % 512] += 1
    return found / np.linalg.norm(found, axis=1, keepdims=True)


TALKS = [
    ("a", "where can i buy a cheap car in town please"),
    ("b", "where can i purchase a inexpensive automobile in town please"),
    ("c", "how do whales sleep without drowning at night"),
    ("d", "where can i buy a cheap car in town"),
]


def test_the_best_stays_and_the_others_say_for_whom_and_how_alike(monkeypatch):
    monkeypatch.setattr(traces, "embed", synonyms)
    chosen = DedupSettings(**OFF, semantic={"model": "made", "threshold": 0.9})
    talks = [Candidate(conversation(i, text, f"Answer {i}.")) for i, text in TALKS]
    for seed in range(4):
        shuffled = random.Random(seed).sample(talks, len(talks))
        found = deduplicate(shuffled, chosen)
        told = {shuffled[i].conversation.id: duplicate for i, duplicate in found.items()}
        assert set(told) == {"b", "d"}
        assert (told["b"].reason, told["b"].kept_id, told["b"].cluster) == (
            "semantic_duplicate", "a", "a",
        )  # fmt: skip
        assert told["b"].similarity == 1.0
        assert 0.9 <= told["d"].similarity < 1
    assert deduplicate(talks, DedupSettings(**OFF)) == {}


def test_earlier_releases_count_and_indexes_without_vectors_are_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(traces, "embed", synonyms)
    a, b, c = (conversation(i, text, f"Answer {i}.") for i, text in TALKS[:3])
    run(tmp_path / "old", [a, c], shards=1, chosen=CurateSettings(dedup=OFF))
    against = OFF | {"against": [tmp_path / "old"]}
    figures, _, _ = run(tmp_path / "plain", [b], shards=1, chosen=CurateSettings(dedup=against))
    assert figures["kept"] == 1
    aware = CurateSettings(dedup=against | {"semantic": {"model": "made", "threshold": 0.9}})
    figures, _, rejected = run(tmp_path / "new", [b], shards=1, chosen=aware)
    assert figures["kept"] == 0
    assert rejected[0]["detail"].startswith("kept=a similarity=1.000 cluster=")
    assert rejected[0]["stage"] == "near-duplicates"


def test_without_the_extra_the_message_says_how_to_install_it(monkeypatch):
    there = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("model2vec"):
            raise ImportError(name)
        return there(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    semantic._static_model.cache_clear()
    with pytest.raises(WorldError, match=r"realchat\[semantic\]"):
        embed(["a"], "wordllama")


def test_traces_with_other_vectors_are_not_compared():
    plain = DedupSettings().shape
    shapes = [TraceShape(plain.shingling, plain.units, SemanticSettings(model=m)) for m in "ab"]
    assert len({plain.print, *(shape.print for shape in shapes)}) == 3
    other = SemanticSettings(model="a", threshold=0.5)
    assert TraceShape(plain.shingling, plain.units, other).print == shapes[0].print


def test_the_shipped_vectors_know_synonyms_and_not_the_rows_beside():
    pytest.importorskip("model2vec")
    pytest.importorskip("wordllama")
    texts = [
        "how do i fix a flat bicycle tyre",
        "repairing a punctured bike tire",
        "",
        "write a poem",
    ]
    found = embed(texts, "wordllama")
    likeness = found @ found.T
    assert likeness[0, 1] > 0.5 > likeness[0, 3]
    assert np.allclose(np.linalg.norm(found, axis=1), [1, 1, 0, 1])
    alone = np.concatenate([embed([text], "wordllama") for text in texts])
    assert (alone == found).all()
    with pytest.raises(InputError, match="no model2vec model"):
        embed(["a"], "/no/such/folder")
