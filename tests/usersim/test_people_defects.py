"""Known ways to lose or falsify real people's conversations, each shown not to happen here.

The names DP1, DP2, DP3 are those of the catalogue of defects in earlier pipelines.
"""

import hashlib
import json
from pathlib import Path

from usersim.files import read_conversations, read_rows
from usersim.people import SPLITS, IngestSettings, ingest

SAMPLES = Path(__file__).parents[1] / "data" / "sources"


def talk(n, user, answer="Certainly, here is what I know about that."):
    rows = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    return {"id": f"t{n}", "messages": rows}


def lines(path, talks):
    path.write_text("\n".join(json.dumps(t, ensure_ascii=False) for t in talks), encoding="utf-8")


def kept(out):
    return {c.id: c for name in SPLITS for c in read_conversations(out / f"{name}.parquet")}


def test_dp1_every_part_is_read_once_and_listed_with_its_records_and_hash(tmp_path):
    """The defect: a merge loop read part 1 twice, so half was missing and half was doubled."""
    parts = tmp_path / "parts"
    parts.mkdir()
    for part in range(3):
        numbers = range(part * 10, part * 10 + 4 + part)
        lines(
            parts / f"part{part}.jsonl",
            [talk(n, f"what is the story of town {n * 7} near lake {n}?") for n in numbers],
        )
    figures = ingest(IngestSettings(source=str(parts), language=None), tmp_path / "out")
    assert figures["files"] == [
        {
            "name": path.name,
            "records": 4 + number,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for number, path in enumerate(sorted(parts.iterdir()))
    ]
    assert figures["funnel"][0]["in"] == sum(file["records"] for file in figures["files"]) == 15
    expected = {f"t{part * 10 + n}" for part in range(3) for n in range(4 + part)}
    assert set(kept(tmp_path / "out")) == expected


def test_dp1_the_same_part_given_twice_shows_in_the_list_and_doubles_nothing(tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    for name in ("a", "b"):
        lines(parts / f"{name}.jsonl", [talk(n, f"why is {n * 13} before {n}?") for n in range(6)])
    figures = ingest(IngestSettings(source=str(parts), language=None), tmp_path / "out")
    first, second = figures["files"]
    assert first["sha256"] == second["sha256"]
    (merge,) = [stage for stage in figures["funnel"] if stage["stage"] == "merge"]
    assert merge["reasons"] == {"duplicate_id": 6}
    assert len(kept(tmp_path / "out")) == 6


def test_dp2_curly_quotes_accents_and_emoji_are_english(tmp_path):
    """The defect: a filter by ranges of code points threw 46 % away, plain English included."""
    english = [
        "I’d like a short note that says “thank you” to my neighbours, please",  # noqa: RUF001
        "What does naïve mean, and how is a café different from a coffee shop?",
        "can you help me plan a birthday party for my daughter 🎉🎂 she turns seven",
        "How much is £20 in € today — roughly, I don’t need the exact rate…",  # noqa: RUF001
    ]
    others = [
        "Peux-tu me dire comment aller de la gare au port sans prendre la voiture ?",
        "Wie lange muss ich den Teig stehen lassen, bevor ich ihn backen kann?",
    ]
    lines(tmp_path / "a.jsonl", [talk(n, text) for n, text in enumerate(english + others)])
    figures = ingest(IngestSettings(source=str(tmp_path / "a.jsonl")), tmp_path / "out")
    found = kept(tmp_path / "out")
    assert {c.opener for c in found.values()} == set(english)
    (stage,) = [stage for stage in figures["funnel"] if stage["stage"] == "language"]
    assert stage["reasons"] == {"other_language": 2}


def test_dp3_near_duplicates_and_shared_openers_go_and_are_kept_on_record(tmp_path):
    """The defect: only whole conversations that were exactly equal counted as duplicates."""
    base = "write a friendly letter to my landlord about the broken heating in the bathroom"
    talks = [
        talk(0, f"{base} please"),  # nearly the same
        talk(1, base, "Of course: dear landlord, it is cold in the bathroom."),
        talk(2, base),
        talk(3, "which birds stay in the north over the winter and what do they eat there?"),
    ]
    lines(tmp_path / "a.jsonl", talks)
    ingest(IngestSettings(source=str(tmp_path / "a.jsonl")), tmp_path / "out")
    assert len(kept(tmp_path / "out")) == 2
    rejected = read_rows(tmp_path / "out" / "rejected.parquet")
    assert sorted(row["reason"] for row in rejected) == ["same_opener", "similar_opener"]


def test_a_tree_of_replies_is_counted_in_messages_and_loses_none(tmp_path):
    settings = IngestSettings(source=str(SAMPLES / "oasst.messages.jsonl"), language=None)
    figures = ingest(settings, tmp_path / "out")
    read, merge = figures["funnel"][:2]
    assert (read["in"], read["kept"]) == (9, 4)
    assert read["reasons"] == {"deleted_message": 1, "no_parent": 1, "other_branch": 3}
    assert (merge["unit"], merge["in"]) == ("paths", 1)
    (conversation,) = kept(tmp_path / "out").values()
    assert (conversation.stop_reason, conversation.license) == ("cut", "apache-2.0")
