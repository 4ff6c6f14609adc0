import json
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from usersim.errors import InputError, WorldError
from usersim.files import read_conversations, read_rows
from usersim.neardup import LiveIndex, jaccard
from usersim.people import SPLITS, IngestSettings, ingest, summary
from usersim.shingling import Shingling

SOURCE = Path(__file__).parents[1] / "data" / "people.json"
SETTINGS = IngestSettings(source=str(SOURCE), dev=3, test=4)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("people")
    return ingest(SETTINGS, out), out


def conversations(out):
    return {name: read_conversations(out / f"{name}.parquet") for name in SPLITS}


def opener_similarity(left, right, words=3):
    shingling = Shingling(words)
    return jaccard(shingling.shingles(left.opener), shingling.shingles(right.opener))


def test_every_record_is_kept_or_rejected_with_its_reason(done):
    figures, out = done
    reasons = {stage["stage"]: stage["reasons"] for stage in figures["funnel"]}
    assert reasons == {
        "read": {"empty_conversation": 1, "truncated_json": 1, "unknown_role": 1},
        "merge": {"no_opening": 1},
        "clean": {"no_answer": 1, "prompt_template": 1},
        "language": {"other_language": 1},
        "openers": {"same_opener": 2, "similar_opener": 1},
        "user_sides": {},
    }
    rejected = read_rows(out / "rejected.parquet")
    counted = Counter((row["stage"], row["reason"]) for row in rejected)
    assert counted == {
        (stage, reason): n for stage, found in reasons.items() for reason, n in found.items()
    }
    assert all(row["record"] for row in rejected)
    by_id = {row["id"]: row for row in rejected}
    assert by_id["l00"]["detail"].startswith("de")
    assert json.loads(by_id["d01"]["record"])["messages"][0]["content"].startswith("I need to tell")
    assert "you rem" in by_id["z00_0"]["record"]


def test_stages_follow_on_each_other(done):
    figures, _ = done
    stages = figures["funnel"]
    for stage in stages:
        assert stage["in"] == stage["kept"] + stage["rejected"]
    talks = [stage for stage in stages if stage["unit"] == "conversations"]
    assert [s["kept"] for s in talks[:-1]] == [s["in"] for s in talks[1:]]
    assert (
        talks[-1]["kept"] == sum(figures["splits"].values()) == figures["people"]["conversations"]
    )


def test_splits_hold_what_was_asked_and_share_nothing(done):
    figures, out = done
    found = conversations(out)
    assert figures["splits"] == {name: len(found[name]) for name in SPLITS}
    # 22 people remain: a tenth and a fifth of them bound the held-out splits.
    assert (len(found["dev"]), len(found["test"])) == (2, 4)
    ids = [c.id for name in SPLITS for c in found[name]]
    assert len(set(ids)) == len(ids) == 22


def test_no_held_out_opener_resembles_one_in_train(done):
    _, out = done
    found = conversations(out)
    for held, seen in product(found["dev"] + found["test"], found["train"]):
        assert opener_similarity(held, seen) < SETTINGS.split_threshold


def test_chunks_are_joined_and_lineage_travels(done):
    _, out = done
    found = {c.id: c for name in SPLITS for c in conversations(out)[name]}
    assert found["p05"].num_rounds == 3
    assert found["p05"].stop_reason == "user_ended"
    assert {(c.source, c.license) for c in found.values()} == {("people", "unstated")}


def test_of_a_cluster_the_longest_talk_is_kept(done):
    _, out = done
    rejected = {row["id"]: row["detail"] for row in read_rows(out / "rejected.parquet")}
    assert rejected["d01"] == "in a cluster of 2 with p02"


def test_the_same_source_gives_the_same_bytes(done, tmp_path):
    figures, out = done
    assert ingest(SETTINGS, tmp_path) == figures
    for name in (*SPLITS, "rejected"):
        assert (tmp_path / f"{name}.parquet").read_bytes() == (out / f"{name}.parquet").read_bytes()


def test_the_split_does_not_depend_on_the_order_of_records(done, tmp_path):
    _, out = done
    text = SOURCE.read_text(encoding="utf-8")
    records = json.loads(text[: text.rindex(",\n{\n")] + "]")
    backwards = tmp_path / "people.json"
    backwards.write_text(json.dumps(records[::-1]), encoding="utf-8")
    ingest(SETTINGS.model_copy(update={"source": str(backwards)}), tmp_path / "out")
    for name in SPLITS:
        first, second = conversations(out)[name], conversations(tmp_path / "out")[name]
        assert {c.id for c in first} == {c.id for c in second}


def test_another_seed_holds_out_other_people(done, tmp_path):
    _, out = done
    ingest(SETTINGS.model_copy(update={"seed": 1}), tmp_path)
    assert {c.id for c in conversations(out)["test"]} != {
        c.id for c in conversations(tmp_path)["test"]
    }


def test_a_limit_rejects_the_rest_by_name(tmp_path):
    figures = ingest(SETTINGS.model_copy(update={"limit": 8}), tmp_path)
    (stage,) = [s for s in figures["funnel"] if s["stage"] == "limit"]
    assert (stage["kept"], list(stage["reasons"])) == (8, ["over_limit"])


@pytest.mark.parametrize("language", ["EN", "eng", "english"])
def test_a_language_that_no_model_tells_is_refused(tmp_path, language):
    source = tmp_path / "talk.jsonl"
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}]
    source.write_text(json.dumps({"messages": messages}))
    with pytest.raises(InputError, match=f"ingest.language={language} is no code"):
        ingest(IngestSettings(source=str(source), language=language), tmp_path / "out")


def test_every_language_may_stay(tmp_path):
    figures = ingest(SETTINGS.model_copy(update={"language": None}), tmp_path)
    assert "language" not in [stage["stage"] for stage in figures["funnel"]]
    assert figures["people"]["conversations"] == 23


def plain(tmp_path, records):
    path = tmp_path / "talk.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in records), encoding="utf-8")
    return IngestSettings(source=str(path))


def talk(user, answer="Certainly, here is what I know about that."):
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "license": "CC-BY-4.0"}


def test_code_and_greetings_are_judged_by_the_answers(tmp_path):
    settings = plain(
        tmp_path, [talk("hi"), talk("x = [i for i in y]"), talk("ok", "Sehr gern, mein Freund.")]
    )
    figures = ingest(settings, tmp_path / "out")
    assert figures["splits"]["train"] == 2
    assert figures["license"] == "CC-BY-4.0"


def test_neighbours_of_each_other_are_never_held_out(tmp_path):
    """A chain of openers that are alike, but not enough to be duplicates, stays in train."""
    words = [f"word{n}" for n in range(60)]
    chain = [talk("tell me " + " ".join(words[n * 8 : n * 8 + 20])) for n in range(5)]
    single = [talk(f"please explain subject number {n * 7} and topic {n} to me") for n in range(20)]
    settings = plain(tmp_path, chain + single).model_copy(
        update={"language": None, "split_threshold": 0.25, "test": 5, "dev": 2}
    )
    ingest(settings, tmp_path / "out")
    found = conversations(tmp_path / "out")
    held = found["dev"] + found["test"]
    assert len(held) == 7
    assert not any(c.opener.startswith("tell me") for c in held)


def test_nothing_kept_is_the_callers_error_and_leaves_the_reasons(tmp_path):
    settings = plain(tmp_path, [{"text": "no turns"}] * 3)
    with pytest.raises(InputError, match="unknown_shape 3"):
        ingest(settings, tmp_path / "out")
    assert len(read_rows(tmp_path / "out" / "rejected.parquet")) == 3
    assert not (tmp_path / "out" / "train.parquet").exists()


def test_a_source_without_records(tmp_path):
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(InputError, match="holds no records"):
        ingest(IngestSettings(source=str(tmp_path / "none.json")), tmp_path / "out")


def test_a_full_disk_is_the_worlds_fault(tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(WorldError, match="cannot write"):
        ingest(SETTINGS, tmp_path / "out")


def test_a_summary_of_nobody():
    assert summary([])["conversations"] == 0


@pytest.mark.slow
def test_the_embedded_conversations(tmp_path):
    figures = ingest(IngestSettings(), tmp_path)
    stages = {stage["stage"]: stage for stage in figures["funnel"]}
    assert (stages["read"]["in"], stages["read"]["kept"]) == (17_672, 17_545)
    assert stages["read"]["reasons"] == {"empty_conversation": 126, "truncated_json": 1}
    assert stages["merge"]["rejected"] == 0
    assert stages["clean"]["in"] == 9_457
    assert figures["splits"]["dev"] == 100
    assert figures["splits"]["test"] == 300
    assert figures["splits"]["train"] > 7_500
    found = conversations(tmp_path)
    index: LiveIndex[str] = LiveIndex(0.6, Shingling(3))
    for conversation in found["train"]:
        index.add(conversation.id, conversation.opener)
    assert [index.nearest(c.opener) for c in found["dev"] + found["test"]] == [None] * 400
