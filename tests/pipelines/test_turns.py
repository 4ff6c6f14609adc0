"""The first look never spares a turn that the plain rules would stop."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.repetition import duplicate_share, looping_tail, words_of
from pipelines.turns import looks_of
from usersim.conversation import Message

LIMITS = (12, 50, 0.5, 20)
WORD = st.sampled_from(["a", "b", "go", "on", "It\u2019s", "na\u00efve", "7", "\u4f60"])
TEXT = st.lists(WORD, max_size=90).map(" ".join) | st.builds(
    lambda unit, n, tail: " ".join(unit * n + tail),
    st.lists(WORD, min_size=1, max_size=8), st.integers(1, 12), st.lists(WORD, max_size=3),
)  # fmt: skip


def looked(*texts):
    return looks_of(tuple(Message("user", text) for text in texts), LIMITS)


@given(TEXT)
@settings(deadline=None)
def test_a_spared_turn_passes_the_plain_rules(text):
    look, words = looked(text)[0], words_of(text)
    assert look.num_words == max(len(words), 1)
    if not look.may_loop:
        assert looping_tail(words, 12) is None
    if not look.may_repeat:
        assert len(words) < 20 or (len(words) >= 50 and duplicate_share(words, 6) <= 0.5)


@given(TEXT, TEXT)
@settings(deadline=None)
def test_contents_are_equal_for_the_same_words_only(left, right):
    one, other = looked(left, right)
    if words_of(left) and words_of(right):
        assert (one.content == other.content) == (words_of(left) == words_of(right))


def test_a_turn_without_words_is_looked_at_too():
    assert looked("???", "?")[0].num_words == 1
    assert looked("a" * 5000 + " b") != looked("a")
