"""The index of openers: finds exactly the pairs that comparing every set with every other finds."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersim.neardup import LiveIndex, jaccard
from usersim.openers import Openers
from usersim.shingling import Shingling

SHAPE = Shingling(3)
WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "dog", "how", "tell", "story"]), max_size=14)


def by_comparing(texts, text, threshold):
    """Numbers of earlier texts within the threshold, the most similar first, then by age."""
    mine = SHAPE.shingles(text)
    scored = [(-jaccard(mine, SHAPE.shingles(t)), n) for n, t in enumerate(texts)]
    return [n for score, n in sorted(scored) if -score >= threshold]


@given(st.lists(WORDS, max_size=25), st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0]))
def test_finds_what_comparing_all_pairs_finds(texts, threshold):
    index, kept = Openers(threshold, SHAPE), []
    for words in texts:
        text = " ".join(words)
        expected = by_comparing(kept, text, threshold)
        near = index.offer(str(len(kept)), text)
        assert near == (str(expected[0]) if expected else None)
        if near is None:
            kept.append(text)
    assert len(index) == len(kept)


def edited(text, share, rng):
    words = text.split()
    for place in range(len(words)):
        if rng.random() < share:
            words[place] = f"other{rng.randrange(1000)}"
    return " ".join(words)


def test_refuses_what_the_minhash_index_refuses():
    rng = random.Random(5)
    texts = [
        " ".join(f"word{rng.randrange(400)}" for _ in range(rng.randrange(2, 30)))
        for _ in range(150)
    ]
    texts += [edited(rng.choice(texts), share, rng) for share in (0.0, 0.02, 0.05, 0.2) * 40]
    exact, minhash = Openers(0.7, SHAPE), LiveIndex(0.7, SHAPE)
    verdicts = []
    for number, text in enumerate(texts):
        found = minhash.nearest(text)
        verdicts.append(found is not None)
        assert exact.offer(str(number), text) == (found and found[0])
        if found is None:
            minhash.add(str(number), text)
    assert 100 < sum(verdicts) < 200


def test_a_conversation_held_anew_may_begin_as_it_did():
    index = Openers(0.7, SHAPE)
    index.add("one", "how do I boil an egg")
    assert index.offer("one", "how do I boil an egg") is None
    assert index.offer("two", "how do I boil an egg") == "one"


@pytest.mark.parametrize("text", ["", "???", "\ud83d half an emoji", "word " * 3000])
def test_odd_texts_are_texts(text):
    index = Openers(0.7, SHAPE)
    assert index.offer("a", text) is None
    assert index.offer("b", text) == "a"


def test_closing_twice_is_allowed():
    index = Openers(0.7, SHAPE)
    index.close()
    index.close()
