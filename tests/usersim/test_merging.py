import pytest
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


def pair(number):
    return (Message("user", f"question {number}"), Message("assistant", f"answer {number}"))


@pytest.mark.parametrize("numbers", [(1, 3, 7, 11), (0, 5, 9, 13), (0, 2, 5), (3,), (0, 6, 12)])
def test_numbers_with_gaps_that_only_count_records_reject_nothing(numbers):
    merged = merge([chunk(f"chat_{k}", pair(k)) for k in numbers])
    assert [c.id for c in merged.conversations] == [f"chat_{k}" for k in numbers]
    assert {c.stop_reason for c in merged.conversations} == {"user_ended"}


def test_records_that_each_begin_with_a_system_message_are_whole():
    system = (Message("system", "Be brief."),)
    merged = merge([chunk(f"chat_{k}", system + pair(k)) for k in (0, 6)])
    assert [c.id for c in merged.conversations] == ["chat_0", "chat_6"]


def test_a_system_message_moves_the_turns_and_is_no_sign_of_numbering():
    first = chunk("a_0", (Message("system", "Be brief."), *pair(0)))
    merged = merge([first, chunk("a_5", pair(2)), chunk("a_6", pair(2)[1:])])
    assert [r.reason for r in merged.rejected] == ["missing_chunk", "missing_chunk"]


def test_behind_a_record_that_was_lost_is_a_gap():
    merged = merge([chunk("a_0", turns(0, 4)), chunk("a_8", turns(8, 10))], ["a_4"])
    assert [c.stop_reason for c in merged.conversations] == ["cut"]
    assert [r.reason for r in merged.rejected] == ["missing_chunk"]


def test_what_fits_nowhere_is_told_how_to_stand_alone():
    chunks = [chunk("a_0", turns(0, 4)), chunk("a_7", turns(7, 9)), chunk("b_2", turns(2, 4))]
    merged = merge([*chunks, *2 * [chunk("c", turns(0, 2), scraped=False)]])
    details = {r.reason: r.detail for r in merged.rejected}
    assert set(details) == {"missing_chunk", "no_opening", "duplicate_id"}
    assert "after turn 4; " in details["missing_chunk"]
    assert "there is no b_0" in details["no_opening"]
    assert all("ingest.columns" in details[r] for r in ("missing_chunk", "no_opening"))
    assert details["duplicate_id"]
