from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dedup import Candidate, DedupSettings, deduplicate, duplicates_among
from pipelines.traces import Traces
from usersim.conversation import Conversation, Message
from usersim.neardup import jaccard
from usersim.shingling import Shingling

DEFAULT = DedupSettings()
STORY = (
    "write me a long story about a lighthouse keeper who finds a map in a bottle and "
    "sails north to look for the island that was drawn on it"
)


def text_of(one, reason):
    """What the two were compared by."""
    if "dialogue" in reason or "first_round" in reason:
        turns = one.turns if "dialogue" in reason else one.turns[:2]
        return "\n".join(m.content for m in turns)
    return one.opener if "opener" in reason else "\n".join(one.user_turns)


def conversation(row_id, *user_turns, answer="Of course."):
    messages = [
        m for text in user_turns for m in (Message("user", text), Message("assistant", answer))
    ]
    return Conversation(id=row_id, messages=tuple(messages))


def drops(conversations, settings=DEFAULT, faults=None, parts=1):
    """Duplicates by position, the conversations cut into parts."""
    counts = faults or [0] * len(conversations)
    if parts == 1:
        return deduplicate(list(map(Candidate, conversations, counts)), settings)
    size = max(1, -(-len(conversations) // parts))
    pieces = [slice(start, start + size) for start in range(0, len(conversations), size)]
    traces = [Traces.of(conversations[s], counts[s], settings.shape) for s in pieces]
    return duplicates_among(traces, settings).between(0, len(conversations))


def found(*conversations, **options):
    duplicates = drops(conversations, **options)
    return {conversations[i].id: (d.reason, d.kept_id) for i, d in duplicates.items()}


def test_each_unit_finds_its_own_duplicates():
    assert found(
        conversation("a", "how do magnets work?"), conversation("b", "How do magnets work")
    ) == {"b": ("exact_duplicate", "a")}
    assert found(
        conversation("a", "how do big magnets work?"),
        conversation("b", "how do big magnets work?", "and small ones?"),
    ) == {"a": ("same_opener", "b")}
    assert found(conversation("a", STORY), conversation("b", STORY + " please")) == {
        "a": ("near_duplicate_opener", "b")
    }
    assert found(
        conversation("a", "hi", STORY),
        conversation("b", "hello there my old friend", STORY + " now"),
    ) == {"a": ("near_duplicate_conversation", "b")}


def test_the_detail_names_the_kept_one_and_the_similarity():
    duplicates = drops([conversation("a", STORY), conversation("b", STORY + " please")])
    kept = jaccard(Shingling(3).shingles(STORY), Shingling(3).shingles(STORY + " please"))
    assert str(duplicates[0]) == f"kept=b similarity={kept:.3f} cluster=b"


def test_boilerplate_answers_do_not_make_conversations_alike():
    answer = "That is a great question, and I would be glad to walk you through it. " * 20
    assert (
        found(
            conversation("a", "how do magnets work exactly", answer=answer),
            conversation("b", "why is the sky so blue", answer=answer),
        )
        == {}
    )


def test_short_openers_may_open_several_conversations():
    several = [conversation(f"c{i}", "hi", f"what is {i} times {i} and why") for i in range(8)]
    gone = found(*several)
    assert {reason for reason, _ in gone.values()} == {"same_opener"}
    assert len(several) - len(gone) == DEFAULT.max_short_openers


def test_two_records_of_one_id_are_one():
    assert found(
        conversation("a", "how do magnets work"), conversation("a", "why is the sky blue, say")
    ) == {"a": ("duplicate_id", "a")}


def test_a_chain_keeps_both_ends():
    words = [f"w{i}" for i in range(40)]
    texts = [" ".join(words[start : start + 30]) for start in (0, 3, 6)]
    near = [jaccard(Shingling(3).shingles(texts[0]), Shingling(3).shingles(t)) for t in texts[1:]]
    lenient = DedupSettings(opener_threshold=sum(near) / 2, conversation_threshold=sum(near) / 2)
    conversations = [conversation(row_id, text) for row_id, text in zip("abc", texts, strict=True)]
    gone = drops(conversations, lenient)
    assert {i: d.kept_id for i, d in gone.items()} == {1: "a"}


WORD = st.sampled_from(["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"])
TURN = st.lists(WORD, min_size=1, max_size=12).map(" ".join)
USERS = st.lists(st.lists(TURN, min_size=1, max_size=3), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(USERS, st.randoms(use_true_random=False))
def test_what_is_kept_does_not_depend_on_the_order(users, random):
    conversations = [conversation(f"c{i}", *turns) for i, turns in enumerate(users)]
    shuffled = random.sample(conversations, len(conversations))
    assert found(*conversations) == found(*shuffled)


@settings(max_examples=25, deadline=None)
@given(USERS)
def test_what_is_dropped_truly_resembles_something_kept(users):
    conversations = {f"c{i}": conversation(f"c{i}", *turns) for i, turns in enumerate(users)}
    gone = drops(list(conversations.values()))
    kept = conversations.keys() - {f"c{i}" for i in gone}
    for i, duplicate in gone.items():
        one, other = conversations[f"c{i}"], conversations[duplicate.kept_id]
        assert other.id in kept
        sets = [Shingling(3).shingles(text_of(c, duplicate.reason)) for c in (one, other)]
        assert duplicate.similarity == jaccard(*sets)
    assert kept


@settings(max_examples=25, deadline=None, derandomize=True)  # MinHash may miss 1 pair in 1,000
@given(USERS)
def test_no_two_kept_ones_are_alike(users):
    conversations = [conversation(f"c{i}", *turns) for i, turns in enumerate(users)]
    gone = drops(conversations)
    kept = [c for i, c in enumerate(conversations) if i not in gone]
    sides = [Shingling(3).shingles(text_of(c, "user_side")) for c in kept]
    for i, left in enumerate(sides):
        assert all(jaccard(left, right) < DEFAULT.conversation_threshold for right in sides[:i])


ANSWER = " ".join(f"Turn knob {i} until lamp {i + 1} goes out." for i in range(12))


def test_units_in_which_the_assistant_speaks():
    """The same answer to half the same question: only the units with answers see it."""
    one = conversation("a", STORY, "thanks a lot", answer=ANSWER)
    other = conversation(
        "b",
        STORY.replace("lighthouse keeper", "young baker").replace("island", "town"),
        "thanks so much",
        answer=ANSWER,
    )
    assert found(one, other) == {"b": ("near_duplicate_first_round", "a")}
    alone = DEFAULT.model_copy(update={"first_round_threshold": None})
    assert found(one, other, settings=alone) == {"b": ("near_duplicate_dialogue", "a")}
    neither = alone.model_copy(update={"dialogue_threshold": None})
    assert found(one, other, settings=neither) == {}


def test_the_cleaner_of_two_equally_long_ones_stays():
    pair = [conversation("a", STORY), conversation("b", STORY + "!")]
    assert found(*pair, faults=[1, 0]) == {"a": ("exact_duplicate", "b")}
    assert found(*pair, faults=[0, 1]) == {"b": ("exact_duplicate", "a")}


def test_what_was_kept_earlier_stays_even_when_it_is_shorter():
    old = Traces.of([conversation("old", STORY)], [0], DEFAULT.shape)
    pair = [conversation("new", STORY + " please"), conversation("x", "why is the sky so blue")]
    new = Traces.of(pair, [0, 0], DEFAULT.shape)
    gone = duplicates_among([replace(old, is_old=True), new], DEFAULT).between(0, 3)
    assert {i: d.kept_id for i, d in gone.items()} == {1: "old"}
    twice = duplicates_among([replace(old, is_old=True)] * 2, DEFAULT)
    assert twice.between(0, 2) == {}


def test_a_cluster_is_named_by_its_best():
    words = [f"w{i}" for i in range(40)]
    texts = [" ".join(words[start : start + 30]) for start in (0, 3, 6)]
    lenient = DedupSettings(opener_threshold=0.7, conversation_threshold=0.7)
    gone = drops([conversation(i, t) for i, t in zip("abc", texts, strict=True)], lenient)
    assert [(d.kept_id, d.cluster) for d in gone.values()] == [("a", "a")]


@settings(max_examples=20, deadline=None)
@given(USERS, st.randoms(use_true_random=False), st.integers(1, 4))
def test_parts_and_order_change_nothing(users, random, parts):
    conversations = [conversation(f"c{i}", *turns) for i, turns in enumerate(users)]
    whole = {conversations[i].id: d for i, d in drops(conversations).items()}
    shuffled = random.sample(conversations, len(conversations))
    assert {shuffled[i].id: d for i, d in drops(shuffled, parts=parts).items()} == whole
