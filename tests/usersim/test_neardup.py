import random
from itertools import combinations

import numpy as np
import pytest
from datasketch import MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.neardup import (
    Banding,
    LiveIndex,
    Pair,
    candidate_pairs,
    clusters,
    components,
    jaccard,
    near_duplicate_pairs,
    signatures,
)
from usersim.shingling import Shingling, minhash

VOCABULARY = ["how", "do", "i", "bake", "plant", "fix", "write", "a", "the", "bread", "poem", "now"]
WORDS = st.sampled_from(VOCABULARY)
TEXTS = st.lists(st.lists(WORDS, max_size=12).map(" ".join), max_size=14)


def text_of(length, draw):
    return " ".join(f"w{draw.randrange(10**6)}" for _ in range(length))


def brute_force(texts, threshold, shingling):
    sets = [shingling.shingles(text) for text in texts]
    scored = (Pair(i, j, jaccard(sets[i], sets[j])) for i, j in combinations(range(len(sets)), 2))
    return [pair for pair in scored if pair.jaccard >= threshold]


def test_estimated_and_true_jaccard_agree():
    draw, num_perm = random.Random(7), 128
    shingling, errors = Shingling(1), []
    for share in np.linspace(0, 1, 41):
        common, rest = int(200 * share), 200 - int(200 * share)
        body = text_of(common, draw)
        texts = [f"{body} {text_of(rest, draw)}" for _ in range(2)]
        left, right = signatures(texts, shingling, num_perm)
        true = jaccard(*(shingling.shingles(text) for text in texts))
        errors.append(float(np.mean(left == right)) - true)
    # The estimator's standard deviation is at most sqrt(1/4 / 128) = 0.044, and its mean is exact.
    assert np.sqrt(np.mean(np.square(errors))) < 0.05
    assert abs(np.mean(errors)) < 0.02


def pairs_of_datasketch(values, banding):
    """The candidate pairs that datasketch's own LSH finds on the same signatures."""
    lsh = MinHashLSH(num_perm=banding.num_perm, params=(banding.bands, banding.rows))
    found = set()
    for position, row in enumerate(values):
        sketch = minhash(row)
        found |= {(other, position) for other in lsh.query(sketch)}
        lsh.insert(position, sketch)
    return found


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.sampled_from([(25, 5), (9, 13), (40, 2), (2, 1)]))
def test_candidates_are_those_of_datasketch(texts, shape):
    banding = Banding(*shape)
    values = signatures(texts, Shingling(2), banding.num_perm)
    found = candidate_pairs(values, banding)
    assert list(map(tuple, found.tolist())) == sorted(pairs_of_datasketch(values, banding))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_candidates_of_arbitrary_signatures_are_those_of_datasketch(seed, values):
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, values + 1, (30, 12), dtype=np.uint32)  # full of coincidences
    for banding in (Banding(4, 3), Banding(2, 6), Banding(12, 1)):
        found = set(map(tuple, candidate_pairs(rows, banding).tolist()))
        assert found == pairs_of_datasketch(rows, banding)


def test_a_crowded_bucket_is_compared_with_its_first_ones():
    rows = np.zeros((500, 4), dtype=np.uint32)
    assert len(candidate_pairs(rows, Banding(2, 2))) == 500 * 499 // 2
    assert candidate_pairs(rows, Banding(2, 2), most=1).tolist() == [[0, i] for i in range(1, 500)]


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from([0.5, 0.7, 0.9]))
def test_pairs_are_those_of_brute_force(texts, threshold):
    shingling = Shingling(2)
    # A banding of single values proposes every pair that shares anything much: no luck involved.
    banding = Banding(256, 1)
    found = near_duplicate_pairs(texts, threshold, shingling, banding)
    expected = brute_force(texts, threshold, shingling)
    assert set(found) <= set(expected)
    assert clusters(len(texts), found) == clusters(len(texts), expected)
    distinct = list({shingling.shingles(text): text for text in texts}.values())
    assert near_duplicate_pairs(distinct, threshold, shingling, banding) == brute_force(
        distinct, threshold, shingling
    )


@settings(max_examples=30, deadline=None)
@given(TEXTS, st.randoms(use_true_random=False))
def test_clusters_do_not_depend_on_order(texts, shuffler):
    def grouped(order):
        found = clusters(len(order), near_duplicate_pairs([texts[i] for i in order], 0.6))
        return {frozenset(order[i] for i in members) for members in found}

    order = list(range(len(texts)))
    shuffled = order.copy()
    shuffler.shuffle(shuffled)
    assert grouped(order) == grouped(shuffled)


def test_planted_edits_are_found_and_unrelated_texts_are_not():
    draw = random.Random(3)
    originals = [text_of(60, draw) for _ in range(100)]
    edited = []
    for text in originals:
        words = text.split()
        words[draw.randrange(60)] = "edited"
        edited.append(" ".join(words))
    pairs = near_duplicate_pairs(originals + edited, 0.6, Shingling(3))
    assert {(p.left, p.right) for p in pairs} == {(i, i + 100) for i in range(100)}


def test_many_exact_repeats_are_linked_to_their_first():
    pairs = near_duplicate_pairs(["continue"] * 500 + ["go on"], 0.8)
    assert len(pairs) == 499
    assert [len(members) for members in clusters(501, pairs)] == [500, 1]


def test_clusters_chain_and_keep_the_single_ones():
    pairs = [Pair(3, 4, 0.9), Pair(0, 3, 0.8)]
    assert clusters(5, pairs) == [[0, 3, 4], [1], [2]]
    assert clusters(0, []) == []


@given(st.integers(0, 12), st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99))))
def test_components_of_arrays_are_the_clusters_of_their_pairs(n, found):
    pairs = sorted({(a % n, b % n) for a, b in found if a % n < b % n} if n else set())
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    expected = clusters(n, [Pair(left, right, 1.0) for left, right in pairs])
    assert components(n, [array]) == expected
    assert components(n, [array[::2], array, array[1::2]]) == expected, "the same pair twice"


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_the_chosen_banding_proposes_pairs_at_the_threshold(threshold):
    banding = Banding.for_threshold(threshold)
    assert banding.recall(threshold) >= 0.999
    assert banding.num_perm <= 128
    longer = Banding(128 // (banding.rows + 1), banding.rows + 1)
    assert longer.recall(threshold) < 0.999


class TestLiveIndex:
    def test_refuses_an_edited_opener_and_names_it(self):
        index = LiveIndex(0.6, Shingling(3))
        assert index.nearest("Can you help me plan a small garden for my balcony?") is None
        index.add("a", "Can you help me plan a small garden for my balcony?")
        index.add("b", "What is the capital of Peru?")
        key, score = index.nearest("can you help me plan a small garden for my balcony, please")
        assert key == "a"
        assert 0.6 <= score < 1
        assert index.nearest("What is the largest lake in Peru?") is None
        assert len(index) == 2

    def test_closest_wins_and_between_equals_the_first(self):
        index = LiveIndex(0.5, Shingling(1), Banding(128, 1))
        index.add("far", "one two three four five")
        index.add("near", "one two three four")
        index.add("twin", "four three two one")
        assert index.nearest("one two three four") == ("near", 1.0)

    def test_a_key_is_used_once(self):
        index = LiveIndex(0.8)
        index.add(1, "hello")
        with pytest.raises(ValueError, match="already"):
            index.add(1, "something else")
