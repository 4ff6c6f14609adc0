"""Shared runs of words are counted exactly, and edits as the textbook's table counts them."""

import random

from hypothesis import given
from hypothesis import strategies as st

from usersim.overlap import RunIndex, fewest_edits
from usersim.shingling import Shingling

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=12)


def by_table(pattern, words):
    """Sellers' dynamic programme, cell by cell."""
    row = [0] * (len(words) + 1)
    for i, mine in enumerate(pattern, 1):
        before, row = row, [i]
        for j, theirs in enumerate(words, 1):
            row.append(min(before[j - 1] + (mine != theirs), before[j] + 1, row[-1] + 1))
    return min(row)


@given(WORDS, WORDS)
def test_fewest_edits_is_the_table_s(pattern, words):
    assert fewest_edits(pattern, words) == by_table(pattern, words)


def test_a_long_pattern_is_found_amid_other_words():
    pattern = [f"w{i}" for i in range(200)]
    assert fewest_edits(pattern, ["x"] * 50 + pattern[:90] + pattern[91:] + ["y"]) == 1


@given(st.lists(WORDS.map(" ".join), max_size=5), st.lists(WORDS.map(" ".join), max_size=5))
def test_shared_runs_are_the_sets_intersections(references, texts):
    index, shape = RunIndex(references, 3), Shingling(3)
    sets = [shape.shingles(reference) for reference in references]
    for text, shared in zip(texts, index.shared(texts), strict=True):
        mine = shape.shingles(text)
        assert shared == {i: n for i, s in enumerate(sets) if (n := len(mine & s))}


def test_the_longest_stretch_is_counted_in_words():
    index = RunIndex(["one two three four five six seven eight", "nine ten"], 4)
    texts = ["he said: Two, three, four, five, six! and left", "one two three", "", "nine ten"]
    assert index.longest(texts).tolist() == [5, 0, 0, 4]


def test_an_empty_index_holds_nothing():
    assert RunIndex([], 3).shared(["a b c d"]) == [{}]
    assert RunIndex([], 3).longest(["a b c d"]).tolist() == [0]


def test_minhash_estimates_the_containment_that_is_counted():
    """|A and B| / |A| = J (|A| + |B|) / (|A| (1 + J)), and a signature estimates J alone."""
    draw, shape = random.Random(2), Shingling(3)
    questions = [[f"q{i}w{n}" for n in range(12 + i)] for i in range(20)]
    texts = [
        " ".join([*draw.choices(questions[-1], k=20), *q[: draw.randint(4, len(q))], "so", "what"])
        for q in questions
    ]
    asked = [" ".join(q) for q in questions]
    counted, sizes = RunIndex(asked, 3).shared(texts), RunIndex(texts, 3).sizes
    mine, theirs = shape.sketches(asked, 2048).signatures, shape.sketches(texts, 2048).signatures
    for i, q in enumerate(RunIndex(asked, 3).sizes):
        jaccard = (mine[i] == theirs[i]).mean()
        estimate = jaccard * (q + sizes[i]) / (q * (1 + jaccard))
        assert counted[i][i] > 0
        assert abs(estimate - counted[i][i] / q) < 0.12
