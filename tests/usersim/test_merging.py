from hypothesis import given
from hypothesis import strategies as st

from usersim.conversation import Message
from usersim.merging import merge
from usersim.sources import Draft


def turns(start, stop):
    return tuple(Message(("user", "assistant")[n % 2], f"turn {n}") for n in range(start, stop))


def chunk(name, messages, scraped=True):
    return Draft(id=name, messages=messages, source="test", scraped=scraped)


def test_overlapping_and_adjacent_chunks_become_one_conversation():
    chunks = [chunk("a_9", turns(9, 12)), chunk("a_0", turns(0, 6)), chunk("a_6", turns(6, 10))]
    merged = merge(chunks)
    (whole,) = merged.conversations
    assert (whole.id, whole.messages, whole.stop_reason) == ("a", turns(0, 12), "user_ended")
    assert (merged.num_joined, merged.rejected) == (3, [])


def test_a_gap_cuts_the_conversation_and_rejects_what_is_behind():
    merged = merge(
        [chunk("a_0", turns(0, 4)), chunk("a_7", turns(7, 9)), chunk("a_8", turns(8, 10))]
    )
    (kept,) = merged.conversations
    assert (kept.messages, kept.stop_reason) == (turns(0, 4), "cut")
    assert [(r.id, r.reason) for r in merged.rejected] == [
        ("a_7", "missing_chunk"),
        ("a_8", "missing_chunk"),
    ]


def test_a_chunk_that_contradicts_is_rejected():
    merged = merge([chunk("a_0", turns(0, 4)), chunk("a_3", turns(5, 8))])
    assert merged.conversations[0].stop_reason == "cut"
    assert [r.reason for r in merged.rejected] == ["chunk_differs"]


def test_without_its_first_chunk_a_conversation_has_no_opening():
    merged = merge([chunk("a_3", turns(3, 6)), chunk("a_5", turns(5, 8))])
    assert merged.conversations == []
    assert [r.reason for r in merged.rejected] == ["no_opening", "no_opening"]


def test_a_lost_continuation_cuts_and_a_lost_repeat_does_not():
    first = chunk("a_0", turns(0, 4))
    assert merge([first], ["a_3"]).conversations[0].stop_reason == "cut"
    assert merge([first], ["a_0", "b_3"]).conversations[0].stop_reason == "user_ended"


def test_an_unanswered_last_turn_is_a_broken_record():
    assert merge([chunk("a_0", turns(0, 3))]).conversations[0].stop_reason == "cut"


def test_numbers_that_only_count_records_merge_nothing():
    other = (Message("user", "something else"), Message("assistant", "indeed"))
    merged = merge([chunk("a_0", turns(0, 2)), chunk("a_1", other), chunk("a_2", other)])
    assert [c.id for c in merged.conversations] == ["a_0", "a_1", "a_2"]


def test_plain_records_keep_their_names_and_a_name_is_used_once():
    records = [chunk(name, turns(0, 2), scraped=False) for name in ("a_0", "a_2", "a_0")]
    merged = merge(records)
    assert [c.id for c in merged.conversations] == ["a_0", "a_2"]
    assert [r.reason for r in merged.rejected] == ["duplicate_id"]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.booleans(), st.randoms())
def test_any_chunking_in_any_order_is_undone(lengths, overlapping, shuffler):
    ends = [2 * sum(lengths[: n + 1]) for n in range(len(lengths))]
    starts = [0] + [end - overlapping for end in ends[:-1]]
    chunks = [chunk(f"a_{s}", turns(s, e)) for s, e in zip(starts, ends, strict=True)]
    shuffler.shuffle(chunks)
    (whole,) = merge(chunks).conversations
    assert whole.messages == turns(0, ends[-1])


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6), st.integers(1, 4)), max_size=8))
def test_no_record_vanishes(shapes):
    chunks = [chunk(f"{base}_{k}", turns(k, k + n)) for base, k, n in shapes]
    merged = merge(chunks)
    assert merged.num_joined + len(merged.rejected) == len(chunks)
