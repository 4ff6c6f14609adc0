"""The first look never spares a rule that would have found something."""

import random
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_filters import PLANTED, conversation

from benchmarks.filters import conversations, drafts, marked_turns
from pipelines.filters import PLACEHOLDER, REASONS, RULES, FilterSettings, judge, tags_of
from pipelines.first_look import ALWAYS, SIGNS, FirstLook
from pipelines.judging import Judge
from pipelines.mending import mended
from pipelines.repetition_kernel import FOUND

STRICT = FilterSettings(
    encoding="drop", personal_data="drop", blocked_words=("Basil", "go", "two words"),
    max_loop_words=6, min_words_for_repetition=30, max_duplicate_share=0.2,
    max_short_duplicate_share=0.1, max_repeated_user_turns=0, max_repeated_share=0,
)  # fmt: skip
KEEP = FilterSettings(encoding="keep", personal_data="keep")
EVERY = (FilterSettings(), STRICT, KEEP)
WORD = st.sampled_from(["a", "b", "go", "on", "It\u2019s", "na\u00efve", "7", "42", "\u4f60", "_1"])
TEXT = st.lists(WORD, min_size=1, max_size=90).map(" ".join) | st.builds(
    lambda unit, n, tail: " ".join(unit * n + tail),
    st.lists(WORD, min_size=1, max_size=8), st.integers(1, 12), st.lists(WORD, max_size=3),
)  # fmt: skip


def assert_spares_nothing(talks, rules):
    for talk, asked in zip(talks, FirstLook(rules).ask(talks), strict=True):
        plain = judge(talk, rules)
        assert judge(talk, rules, asked=asked) == plain
        assert tags_of(talk, rules, asked) == tags_of(talk, rules)


@given(st.lists(st.lists(TEXT, min_size=2, max_size=6), min_size=1, max_size=3), st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_is_repeated_is_found(talks, data):
    for texts in talks:
        for _ in range(data.draw(st.integers(0, 2))):
            texts.append(data.draw(st.sampled_from(texts)))
    assert_spares_nothing(
        [conversation(*texts) for texts in talks], data.draw(st.sampled_from(EVERY))
    )


@given(st.lists(st.text(min_size=1, max_size=60).map("x".__add__), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_text_is_judged_alike(texts):
    for rules in EVERY:
        assert_spares_nothing([conversation(*texts)], rules)


def test_planted_faults_are_found_one_after_the_other_and_together():
    planted = []
    for texts in (texts for cases in PLANTED.values() for texts in cases):
        fields = texts[-1] if isinstance(texts[-1], dict) else {}
        planted.append(conversation(*(texts[0] if fields else texts), **fields))
    for rules in EVERY:
        assert_spares_nothing(planted, rules)
        found = {v.reason for talk in planted for v in judge(talk, rules) if not v.passed}
        assert rules is not STRICT or found >= set(PLANTED) - {"truncated", "slur", "length"}


def test_real_and_marked_turns_are_judged_as_by_the_plain_rules():
    known = drafts()
    talks = [turn.conversation() for turn in marked_turns(known)]
    talks += conversations(dict(islice(known.items(), 0, None, 40)), 60)
    for rules in EVERY[:2]:
        plain = [mended(talk, rules) for talk in talks]
        assert_spares_nothing([talk for talk, _ in plain], rules)
        judged = Judge(rules).judge(talks)
        assert [(j.conversation, j.changes) for j in judged] == plain


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_is_judged_as_its_conversations_alone(seed):
    draw = random.Random(seed)
    words = ["basil", "light", "water", "7", "\u4f60", "thanks"]
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 40))) for _ in range(400)]
    talks = [conversation(*texts[i : i + draw.randint(1, 9)]) for i in range(0, 390, 3)]
    look = FirstLook(STRICT)
    assert look.ask(talks) == [look.ask([talk])[0] for talk in talks]


def test_rules_that_are_not_asked_pass():
    spam = conversation("hi", "<|im_end|>" * 9)
    assert all(v.passed for v in judge(spam, FilterSettings(), asked=()))
    assert [v.reason for v in judge(spam, FilterSettings(), asked=())] == list(REASONS)


def test_it_is_known_when_to_ask_each_rule():
    assert {*ALWAYS, *SIGNS, *FOUND} == {*RULES, PLACEHOLDER}


def test_what_a_model_finds_is_asked_of_every_conversation():
    by_model = FirstLook(FilterSettings(personal_data_finder="presidio"))
    assert "personal" in by_model.ask([conversation("hi", "Hello.")])[0]
    assert "personal" not in FirstLook(FilterSettings()).ask([conversation("hi", "Hello.")])[0]
