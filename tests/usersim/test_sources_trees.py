import json
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from usersim.conversation import Rejection
from usersim.sources import Draft, read_source
from usersim.sources.draft import Raw
from usersim.sources.trees import Forest

SAMPLES = Path(__file__).parents[1] / "data" / "sources"


def row(name, parent, rank=None, **extra):
    role = extra.pop("role", "prompter" if parent is None else "assistant")
    return {
        "message_id": name, "parent_id": parent, "role": role, "text": f"text {name}", "rank": rank,
    } | extra  # fmt: skip


def grown(*rows):
    """Drafts and rejections of these rows."""
    forest = Forest()
    found = [
        r for number, value in enumerate(rows) for r in forest.add(Raw(f"r{number}", value), "s")
    ]
    found += forest.paths()
    drafts = [f for f in found if isinstance(f, Draft)]
    return drafts, [f for f in found if isinstance(f, Rejection)]


def texts(draft):
    return [m.content.removeprefix("text ") for m in draft.messages]


def test_messages_beside_the_path_are_rejected_by_name():
    for name in ("oasst.messages.jsonl", "oasst.trees.jsonl"):
        found = list(read_source(str(SAMPLES / name)))
        rejected = {r.id: r.reason for r in found if isinstance(r, Rejection)}
        assert rejected == {
            "a2": "other_branch",
            "p4": "other_branch",
            "p2": "other_branch",
            "a4": "deleted_message",
            "p5": "no_parent",
        }
        (path,) = [d for d in found if isinstance(d, Draft)]
        assert path.num_records == 4


def test_the_best_rank_comes_before_the_longer_talk():
    (draft,), _ = grown(
        row("a", None), row("b", "a", 1), row("c", "b", role="prompter"), row("d", "a", 0)
    )
    assert texts(draft) == ["a", "d"]


def test_of_unranked_replies_the_longest_talk_is_taken():
    (draft,), _ = grown(
        row("a", None), row("b", "a"), row("c", "a"), row("d", "c", role="prompter")
    )
    assert texts(draft) == ["a", "c", "d"]


def test_an_unknown_role_takes_what_follows_with_it():
    drafts, rejected = grown(
        row("a", None), row("b", "a", role="judge"), row("c", "b", role="prompter")
    )
    assert [texts(d) for d in drafts] == [["a"]]
    assert Counter(r.reason for r in rejected) == {"unknown_role": 1, "no_parent": 1}


def test_messages_that_answer_each_other_in_a_ring_are_no_conversation():
    drafts, rejected = grown(row("a", "b"), row("b", "a"))
    assert drafts == []
    assert [r.reason for r in rejected] == ["no_parent", "no_parent"]


def test_the_same_id_twice():
    drafts, rejected = grown(row("a", None), row("a", None))
    assert len(drafts) == 1
    assert [r.reason for r in rejected] == ["duplicate_id"]


def test_a_malformed_tree_costs_only_its_malformed_messages(tmp_path):
    tree = {
        "message_tree_id": "t",
        "prompt": {"text": "q", "role": "prompter", "replies": [7, {"role": "assistant"}]},
    }
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(tree))
    found = list(read_source(str(path)))
    assert sorted(getattr(f, "reason", "kept") for f in found) == [
        "kept", "malformed_message", "malformed_message",
    ]  # fmt: skip


parents = st.lists(st.one_of(st.none(), st.integers(0, 14)), min_size=1, max_size=15)


@given(parents, st.randoms(use_true_random=False))
def test_every_message_is_in_one_path_or_rejected(links, random):
    rows = [
        row(str(n), None if parent is None else str(parent), random.choice([None, 0, 1, 2]),
            role=random.choice(["prompter", "assistant"]))
        for n, parent in enumerate(links)
    ]  # fmt: skip
    random.shuffle(rows)
    drafts, rejected = grown(*rows)
    kept = [text for draft in drafts for text in texts(draft)]
    assert sorted([*kept, *(r.id for r in rejected)]) == sorted(r["message_id"] for r in rows)
    assert sum(d.num_records for d in drafts) == len(kept)
    again, _ = grown(*sorted(rows, key=lambda r: r["message_id"]))
    assert {tuple(texts(d)) for d in again} == {tuple(texts(d)) for d in drafts}


def test_ids_that_cannot_be_written_become_ones_that_can():
    rows = [
        row("a\ud800", None, text="x", message_tree_id="t\ud800", user_id="u\ud800"),
        row("b", "a\ud800", message_tree_id="t\ud800"),
        row("c\ud801", "a\ud800", 7, text="y", message_tree_id="t\ud800"),
        row("d", "lost\ud801", message_tree_id="t\ud800"),
    ]
    (draft,), rejected = grown(*rows)
    assert (draft.id, draft.persons, draft.num_records) == (r"t\ud800", (r"u\ud800",), 2)
    assert {r.id: r.reason for r in rejected} == {"b": "other_branch", "d": "no_parent"}
    for text in (draft.id, *(part for r in rejected for part in (r.id, r.detail, r.record))):
        text.encode()


def test_a_rank_that_is_no_number_of_a_machine_costs_one_message():
    drafts, (rejected,) = grown(row("a", None), row("b", "a", 10**400))
    assert ([d.id for d in drafts], rejected.reason) == (["a"], "malformed_message")
