"""What was thrown away is published with its reason, but not with a text that must not be shown."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import load_dataset
from scripted_run import held

from pipelines.corpus import CorpusSettings, build_corpus
from pipelines.curate import CurateSettings, curate
from pipelines.fidelity_rows import FidelityRow
from pipelines.filters import REASONS
from pipelines.marks import set_mark
from pipelines.release import row_ledger
from pipelines.subsets import PUBLIC
from pipelines.verify import verify
from usersim.conversation import Conversation, Message, Rejection
from usersim.files import read_rows, write_conversations, write_rejections

SECRET = "an insult of which nobody wants to be reminded"
PRIVATE = {"personal", "slur", "toxic", "contaminated", "memorised", "engine_error"}


def talk(number: int, opener: str = "", answer: str = "") -> Conversation:
    messages = (
        Message("user", opener or f"how long does {number} eggs take in water number {number}"),
        Message("assistant", answer or f"About {number} minutes, if the water boils already."),
    )
    return Conversation(id=f"t-{number:02d}", messages=messages, source="realchat",
                        license="cc-by-4.0", user_model="u", seed=number)  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    """Thirty conversations curated; a refusal, a blocked word, both at once, and a lost record."""
    refusal = "I'm sorry, but I can't help with that."
    rows = [talk(n) for n in range(30)]
    rows += [talk(40, answer=refusal), talk(41, f"say {SECRET} to me"),
             talk(42, f"say {SECRET} again to me", refusal)]  # fmt: skip
    write_conversations(tmp_path / "conversations" / "part-00000.parquet", rows)
    filters = {"languages": [], "blocked_words": ["insult"]}
    curate(CurateSettings.model_validate({"filters": filters}), tmp_path / "conversations",
           tmp_path / "curated", tmp_path / "rejected" / "curate.parquet")  # fmt: skip
    spoken = json.dumps({"attempts": [{"role": "user", "content": SECRET}]})
    lost = Rejection("t-50", "simulate", "bad_turn", f"no opener: {SECRET}", spoken)
    write_rejections(tmp_path / "rejected" / "simulate.parquet", [lost])
    return tmp_path


def build(folder: Path, **settings) -> dict:
    chosen = CorpusSettings(license="cc-by-4.0", **settings)
    return build_corpus(chosen, folder / "curated", folder / "rejected", folder / "corpus", {})


def rejected_of(folder: Path) -> dict[str, dict]:
    paths = (folder / "corpus" / "rejected").glob("*.parquet")
    return {row["id"]: row for path in paths for row in read_rows(path)}


def test_every_rejected_row_is_there_with_its_reason_and_some_with_their_text(folder):
    build(folder)
    rows = rejected_of(folder)
    assert {i: (r["reason"], r["withheld"]) for i, r in rows.items()} == {
        "t-40": ("refusal", False),
        "t-41": ("slur", True),
        "t-42": (rows["t-42"]["reason"], True),
        "t-50": ("bad_turn", True),
    }
    assert rows["t-40"]["messages"][1]["content"].startswith("I'm sorry")
    assert (rows["t-41"]["license"], rows["t-41"]["messages"]) == ("cc-by-4.0", None)


def curated_anew(folder: Path, rows: list[Conversation], **chosen) -> None:
    write_conversations(folder / "conversations" / "part-00000.parquet", rows)
    filters = {"languages": [], "blocked_words": ["insult"]} | chosen
    curate(CurateSettings.model_validate({"filters": filters}), folder / "conversations",
           folder / "curated", folder / "rejected" / "curate.parquet")  # fmt: skip


def test_what_a_person_marked_bad_is_withheld_with_their_words(folder):
    set_mark(folder, "t-07", "bad", f"she wrote {SECRET}")
    curated_anew(folder, [talk(n) for n in range(30)])
    build(folder)
    row = rejected_of(folder)["t-07"]
    assert (row["reason"], row["withheld"]) == ("marked_bad", True)
    assert (row["messages"], row["detail"]) == (None, None)


def test_of_two_rows_of_one_id_each_is_known_by_its_own(folder):
    """The shorter goes for its id, whichever comes first; it holds what must not be shown."""
    longer = "how long does an egg take in water that boils already, up here in the mountains"
    twin = [talk(7, f"say {SECRET}"), replace(talk(8, longer), id="t-07")]
    for rows in (twin, twin[::-1]):
        curated_anew(folder, [*rows, *(talk(n) for n in range(20, 40))], record_only=["slur"])
        build(folder)
        verdicts = read_rows(folder / "curated" / "verdicts" / "verdicts.parquet")
        kept = next(r for r in verdicts if (r["id"], r["dropped_for"]) == ("t-07", None))
        lineage = [r for p in (folder / "corpus/lineage").glob("*") for r in read_rows(p)]
        assert next(r for r in lineage if r["id"] == "t-07")["failed"] == kept["failed"]
        gone = rejected_of(folder)["t-07"]
        assert (gone["reason"], gone["withheld"]) == ("duplicate_id", True)


def test_nothing_that_was_withheld_is_in_any_file(folder):
    build(folder)
    for path in (folder / "corpus").rglob("*"):
        if path.suffix == ".parquet":
            assert SECRET not in json.dumps(read_rows(path), default=str), path
        elif path.is_file():
            assert SECRET not in path.read_text(encoding="utf-8"), path


def test_what_is_public_is_a_known_reason_and_nothing_private_is():
    """A new rule of the filters must be put on one side or the other."""
    assert {reason for reason in REASONS if reason not in PUBLIC} == PRIVATE
    assert not PUBLIC & PRIVATE


@pytest.mark.parametrize(("name", "rows"), [("default", 30), ("rejected", 4), ("lineage", 30)])
def test_every_subset_loads_by_its_name_without_a_network(folder, monkeypatch, name, rows):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    figures = build(folder)
    assert figures["subsets"]["lineage"]["rows"] == 30
    found = load_dataset(str(folder / "corpus"), name, cache_dir=str(folder / "cache"))
    assert sum(split.num_rows for split in found.values()) == rows
    assert "messages" in found["train"].column_names or name == "lineage"


def test_lineage_says_split_models_seed_and_verdicts(folder):
    build(folder)
    rows = [r for p in (folder / "corpus/lineage").glob("*") for r in read_rows(p)]
    assert {"split", "user_model", "seed", "failed", "tags"} <= rows[0].keys()
    assert "messages" not in rows[0]
    held_out = {r["id"] for p in (folder / "corpus/data").glob("test-*") for r in read_rows(p)}
    assert {r["id"] for r in rows if r["split"] == "test"} == held_out


def test_subsets_that_are_not_wanted_are_not_made_and_an_earlier_ones_go(folder):
    build(folder)
    build(folder, subsets=())
    assert sorted(p.name for p in (folder / "corpus").iterdir()) == ["README.md", "data"]


def test_texts_are_counted_once_in_the_ledger(folder):
    build(folder)
    files = [*(folder / "corpus/data").glob("*"), *(folder / "corpus/rejected").glob("*")]
    assert sum(entry.count for entry in row_ledger(sorted(files))) == 34


def test_a_run_with_subsets_verifies(tmp_path):
    run = held(tmp_path / "run", {"marks": True})
    assert (run.corpus / "lineage").is_dir()
    assert [check.name for check in verify(run.root) if check.problems] == []


def test_measured_fidelity_stands_on_the_card(folder):
    row = FidelityRow("two sample", "linear | first", "auc", 0.6611, floor=0.3556, prompted=0.94)
    chosen = CorpusSettings(license="cc-by-4.0")
    build_corpus(chosen, folder / "curated", folder / "rejected", folder / "corpus",
                 {"fidelity": [row]})  # fmt: skip
    card = (folder / "corpus" / "README.md").read_text(encoding="utf-8")
    assert "| two sample: linear \\| first (auc) | 0.6611 | 0.3556 | 0.94 |" in card
    build(folder)
    assert "Beside real people" not in (folder / "corpus" / "README.md").read_text("utf-8")
