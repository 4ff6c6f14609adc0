import random
from contextlib import nullcontext

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.curate import CurateSettings, Curation, curate
from pipelines.judging import Judge
from pipelines.marks import set_mark
from pipelines.spread import Processes, in_turn
from usersim.conversation import Conversation, Message, conversation_schema
from usersim.errors import InputError, WorldError
from usersim.files import read_conversations, read_rows, write_conversations, write_table

UNITS = [f"{unit}_threshold" for unit in ("opener", "first_round", "conversation", "dialogue")]
PLANTS = ["basil", "mint", "sage", "thyme", "rosemary", "dill", "chives", "parsley"]


def conversation(row_id, *texts, **fields):
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], text) for i, text in enumerate(texts))
    return Conversation(id=row_id, messages=messages, source="realchat", **fields)


def mixed():
    """Eight clean conversations, and four that must go for four reasons, with tokens."""
    clean = [
        conversation(
            f"clean-{plant}",
            f"what does {plant} need to grow well on a balcony in spring",
            f"{plant.title()} wants sun, and water when the soil is dry.",
            user_tokens=10,
            assistant_tokens=20,
        )
        for plant in PLANTS
    ]
    bad = [
        conversation("refuses", "how do i pick a lock", "I'm sorry, but I can't help with that.",
                     user_tokens=3, assistant_tokens=4),
        conversation("leaks", "where do whales sleep", "In the sea.<|im_end|>",
                     user_tokens=1, assistant_tokens=1),
        conversation("german", "Wie lange muss ich Kartoffeln kochen, bis sie weich sind?",
                     "Etwa zwanzig Minuten.", user_tokens=5, assistant_tokens=5),
        conversation("copy", "What does basil need to grow well on a balcony in spring?",
                     "A pot with a hole."),
    ]  # fmt: skip
    return [*clean, *bad]


def run(folder, conversations, shards=2, chosen=None, **known):
    size = -(-len(conversations) // shards)
    for number in range(shards):
        part = conversations[number * size : (number + 1) * size]
        write_conversations(folder / "conversations" / f"part-{number:05d}.parquet", part)
    figures = curate(
        chosen or CurateSettings(),
        folder / "conversations",
        folder / "curated",
        folder / "rejected" / "curate.parquet",
        **known,
    )
    kept = [c for p in sorted((folder / "curated").glob("part-*")) for c in read_conversations(p)]
    return figures, kept, read_rows(folder / "rejected" / "curate.parquet")


def test_every_conversation_is_kept_or_rejected_with_its_reason(tmp_path):
    everything = mixed()
    figures, kept, rejected = run(tmp_path, everything)
    assert {row["id"]: row["reason"] for row in rejected} == {
        "refuses": "refusal",
        "leaks": "template_leak",
        "german": "foreign_language",
        "copy": "exact_duplicate",  # as long as clean-basil, whose id is the smaller one
    }
    by_id = {c.id: c for c in everything}
    assert all(by_id[c.id] == c for c in kept)
    assert len(kept) + len(rejected) == figures["in"] == len(everything)
    assert figures["kept"] == len(kept)


def test_rejected_rows_hold_the_whole_record_and_the_kept_twin(tmp_path):
    _, _, rejected = run(tmp_path, mixed())
    by_reason = {row["reason"]: row for row in rejected}
    assert '"user_tokens": 3' in by_reason["refusal"]["record"]
    assert by_reason["exact_duplicate"]["detail"].startswith("kept=")
    assert "similarity=1.000" in by_reason["exact_duplicate"]["detail"]
    rows = {r["id"]: r for r in read_rows(tmp_path / "curated" / "verdicts" / "verdicts.parquet")}
    told = [rows["copy"][name] for name in ("duplicate_of", "cluster", "similarity")]
    assert told == ["clean-basil", "clean-basil", 1.0]
    assert rows["refuses"]["duplicate_of"] is None
    assert by_reason["refusal"]["stage"] == "filters"


def test_the_funnel_adds_up_and_counts_tokens(tmp_path):
    figures, _, _ = run(tmp_path, mixed())
    stages = figures["funnel"]
    assert [s["stage"] for s in stages] == [
        "filters",
        "exact duplicates",
        "near-duplicates",
        "balance",
    ]
    assert all(s["in"] == s["kept"] + s["rejected"] for s in stages)
    assert [s["in"] for s in stages[1:]] == [s["kept"] for s in stages[:-1]]
    assert figures["tokens"]["in"] == 8 * 30 + 7 + 2 + 10
    assert figures["tokens"]["dropped_by_reason"]["refusal"] == 7


def test_what_a_person_marked_bad_goes_and_its_twin_may_stay(tmp_path):
    set_mark(tmp_path, "clean-basil", "bad", "not how people ask")
    set_mark(tmp_path, "clean-mint", "good")
    _, kept, rejected = run(tmp_path, mixed())
    marked = [row for row in rejected if row["reason"] == "marked_bad"]
    assert [(r["id"], r["detail"]) for r in marked] == [("clean-basil", "not how people ask")]
    assert {"copy", "clean-mint"} <= {c.id for c in kept}
    _, kept, _ = run(tmp_path, mixed(), chosen=CurateSettings(marks=False))
    assert "clean-basil" in {c.id for c in kept}


def test_the_funnel_tells_what_was_spent_on_what_was_dropped(tmp_path):
    figures, _, _ = run(tmp_path, mixed(), rates={"user": 5.0, "assistant": 10.0})
    refused = figures["cost"]["dropped_by_reason"]["refusal"]
    assert refused == {"tokens": 7, "seconds": 3 / 5 + 4 / 10}
    assert figures["cost"]["in"]["seconds"] == (80 + 9) / 5 + (160 + 10) / 10
    stages = [stage["cost"]["tokens"] for stage in figures["funnel"]]
    assert sum(stages) == figures["cost"]["dropped"]["tokens"] == figures["tokens"]["dropped"]
    unknown, _, _ = run(tmp_path / "again", mixed())
    assert unknown["cost"]["in"] == {"tokens": figures["tokens"]["in"], "seconds": None}


def test_damage_is_mended_and_personal_data_masked_in_what_is_kept(tmp_path):
    broken = conversation(
        "broken", "who runs the cafe", "It\u00e2\u20ac\u2122s Mara: mara.quill@gardenpost.se"
    )
    figures, kept, _ = run(tmp_path, [*mixed(), broken])
    assert (
        next(c for c in kept if c.id == "broken").messages[1].content == "It\u2019s Mara: [EMAIL]"
    )
    assert figures["mended"] == {"encoding": 1, "email": 1}
    assert figures["tags"]["mended:email"] == 1
    policy = CurateSettings(filters={"personal_data": "drop", "encoding": "keep"})
    _, _, rejected = run(tmp_path / "strict", [*mixed(), broken], chosen=policy)
    assert {r["id"]: r["reason"] for r in rejected}["broken"] == "personal"


def test_benchmark_questions_and_training_people_are_kept_out(tmp_path):
    question = "what does a saltwater crocodile eat in the dry season up north"
    (tmp_path / "bench.txt").write_text(question + "\n")
    opener = "my grandmother keeps bees behind the old mill and they swarm every may"
    people = tmp_path / "people"
    write_conversations(people / "train.parquet", [conversation("p1", opener, "How nice.")])
    write_conversations(people / "test.parquet", [conversation("p2", "hello you", "Hello.")])
    planted = [
        conversation("bench", f"please tell me {question} thanks", "Fish."),
        conversation("learned", opener + " now", "Lovely."),
    ]
    chosen = CurateSettings(decontamination={"benchmarks": (str(tmp_path / "bench.txt"),)})
    figures, _, rejected = run(tmp_path, [*mixed(), *planted], chosen=chosen, people=people)
    reasons = {r["id"]: r["reason"] for r in rejected}
    assert (reasons["bench"], reasons["learned"]) == ("contaminated", "memorised")
    statement = figures["contamination"]
    assert (statement["found"], statement["kept"]) == (1, 0)
    assert statement["benchmarks"] == [{"name": "bench.txt", "questions": 1, "too_short": 0}]
    memory = figures["memorisation"]
    assert memory["simulated"]["openers"] == round(1 / statement["conversations"], 4)
    assert memory["held_out_people"]["openers"] == 0.0


def test_balance_drops_with_reasons_and_before_and_after_are_told(tmp_path):
    chosen = CurateSettings(balance={"rounds": "as_people", "max_excess": 1.0})
    people = tmp_path / "people"
    known = [conversation(f"p{i}", f"question number {i}", "Yes.", f"and {i}", "No.")
             for i in range(4)]  # fmt: skip
    write_conversations(people / "train.parquet", known)
    figures, kept, rejected = run(tmp_path, mixed(), chosen=chosen, people=people)
    assert figures["in"] == len(kept) + len(rejected)
    assert figures["funnel"][-1]["stage"] == "balance"
    before, after = figures["before_after"]["before"], figures["before_after"]["after"]
    assert (before["conversations"], after["conversations"]) == (12, len(kept))
    assert before["refusals"] > after["refusals"] == 0.0
    capped = CurateSettings(balance={"max_per_opener_cluster": 3, "opener_similarity": 0.3})
    figures, kept, rejected = run(tmp_path / "capped", mixed(), chosen=capped)
    assert figures["reasons"]["opener_cluster"] == 5
    assert len(kept) == 3


def test_every_verdict_is_stored_also_where_it_decided_nothing(tmp_path):
    both = conversation("both", "who are you", "As an AI language model, <|im_end|> I am lost.")
    figures, _, rejected = run(tmp_path, [*mixed(), both])
    rows = {r["id"]: r for r in read_rows(tmp_path / "curated" / "verdicts" / "verdicts.parquet")}
    assert rows["both"]["failed"] == ["template_leak", "self_naming"]
    assert rows["both"]["dropped_for"] == "template_leak"
    assert rows["clean-mint"]["failed"] == []
    assert rows["clean-mint"]["language"] == "en"
    assert figures["findings"]["self_naming"] == 1
    assert "also: self_naming" in next(r["detail"] for r in rejected if r["id"] == "both")


def test_openers_alike_are_one_cluster_of_which_so_many_stay(tmp_path):
    openers = ["how do i prune an old apple tree in march", "what is a sonnet anyway"]
    talks = [conversation(f"a{i}", f"{openers[0]} please {i}", f"{plant}.", f"and {plant}", "Too.")
             for i, plant in enumerate(PLANTS[:5])]  # fmt: skip
    talks.append(conversation("b", openers[1], "Fourteen lines."))
    chosen = CurateSettings(dedup=dict.fromkeys(UNITS), balance={"max_per_opener_cluster": 2})
    figures, kept, rejected = run(tmp_path, talks, chosen=chosen)
    assert figures["reasons"] == {"opener_cluster": 3}
    assert "b" in {c.id for c in kept}
    assert {row["detail"] for row in rejected} == {"more than 2 of the cluster of a0"}


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 2**16), st.integers(1, 4))
def test_order_and_sharding_do_not_change_what_is_kept(tmp_path_factory, seed, shards):
    folder = tmp_path_factory.mktemp("shuffled")
    rows = mixed()
    random.Random(seed).shuffle(rows)
    _, kept, rejected = run(folder, rows, shards)
    assert {r["id"] for r in rejected} == {"refuses", "leaks", "german", "copy"}
    assert {c.id for c in kept} == {c.id for c in mixed()} - {r["id"] for r in rejected}


def test_a_row_that_is_no_conversation_is_quarantined(tmp_path):
    import pyarrow as pa

    rows = [c.to_row() for c in mixed()]
    rows[0]["messages"] = [{"role": "assistant", "content": "I speak first."}]
    rows[1]["messages"] = None
    rows[2]["id"] = None
    rows[3]["messages"] = [{"role": "narrator", "content": "It was night."}]
    rows[4]["messages"] = []
    path = tmp_path / "conversations" / "part-00000.parquet"
    write_table(path, pa.Table.from_pylist(rows, schema=conversation_schema()))
    figures = curate(CurateSettings(), path.parent, tmp_path / "curated", tmp_path / "r.parquet")
    reasons = [row["reason"] for row in read_rows(tmp_path / "r.parquet")]
    assert reasons[:5] == [
        "roles_do_not_alternate",
        "malformed_message",
        "missing_id",
        "unknown_role",
        "empty_conversation",
    ]
    assert figures["in"] == len(rows) == figures["kept"] + len(reasons)


def test_curating_again_leaves_nothing_of_the_time_before(tmp_path):
    run(tmp_path, mixed(), shards=3)
    (tmp_path / "conversations" / "part-00002.parquet").unlink()
    run(tmp_path, mixed(), shards=2)
    names = [p.name for p in sorted((tmp_path / "curated").glob("*.parquet"))]
    assert names == ["part-00000.parquet", "part-00001.parquet"]


def test_no_shards_and_foreign_files_are_input_errors(tmp_path):
    import pyarrow as pa

    with pytest.raises(InputError, match="no conversations"):
        curate(CurateSettings(), tmp_path / "none", tmp_path / "c", tmp_path / "r.parquet")
    path = tmp_path / "conversations" / "part-00000.parquet"
    write_table(path, pa.table({"text": ["hello"]}))
    with pytest.raises(InputError, match="no column id and no messages"):
        curate(CurateSettings(), path.parent, tmp_path / "c", tmp_path / "r.parquet")
    write_table(path, pa.table({"id": ["a"], "messages": ["hello"]}))
    with pytest.raises(InputError, match="column messages is string"):
        curate(CurateSettings(), path.parent, tmp_path / "c", tmp_path / "r.parquet")
    path.write_text("this is not Parquet")
    with pytest.raises(InputError, match="cannot read"):
        curate(CurateSettings(), path.parent, tmp_path / "c", tmp_path / "r.parquet")


def test_an_empty_shard_gives_zero_in_and_zero_kept(tmp_path):
    figures, kept, rejected = run(tmp_path, [], shards=1)
    assert (figures["in"], figures["kept"], kept, rejected) == (0, 0, [], [])


def test_a_disk_that_refuses_is_the_worlds_fault(tmp_path):
    (tmp_path / "curated").write_text("a file where the folder should be")
    with pytest.raises(WorldError, match="cannot write"):
        run(tmp_path, mixed())


@pytest.mark.slow
def test_processes_change_nothing(tmp_path):
    """Not a file's bytes, not a figure."""
    told = {}
    for name, spread in (("alone", nullcontext(in_turn)), ("together", Processes(2))):
        for number in range(3):
            part = tmp_path / name / "conversations" / f"part-{number:05d}.parquet"
            write_conversations(part, mixed()[number::3])
        with spread as chosen:
            figures = told_of(tmp_path / name, chosen)
        written = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        told[name] = figures, [(p.name, p.read_bytes()) for p in written]
    assert told["alone"] == told["together"]


def told_of(folder, spread=in_turn, chosen=None):
    folders = [folder / at for at in ("conversations", "curated", "rejected.parquet")]
    return Curation(chosen or CurateSettings(), *folders).carry_out(spread=spread)


def interrupted_after(number):
    """A spread that is stopped when so many tasks are done."""

    def spread(work, tasks):
        for i, task in enumerate(tasks):
            if i == number:
                raise KeyboardInterrupt
            yield work(task)

    return spread


@pytest.fixture
def three_shards(tmp_path):
    for name in ("broken", "whole"):
        for number in range(3):
            part = tmp_path / name / "conversations" / f"part-{number:05d}.parquet"
            write_conversations(part, mixed()[number::3])
    return tmp_path


def test_an_interrupted_curation_goes_on_after_its_last_whole_shard(three_shards, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        told_of(three_shards / "broken", interrupted_after(2))
    judged, judge = [], Judge.judge
    monkeypatch.setattr(Judge, "judge", lambda self, cs: judged.append(len(cs)) or judge(self, cs))
    resumed = told_of(three_shards / "broken")
    assert judged == [4]  # the third shard alone
    assert resumed == told_of(three_shards / "whole")
    assert not (three_shards / "broken" / "curated.work").exists()


def test_a_curation_killed_while_it_clears_up_is_done_again(three_shards, monkeypatch):
    folder = three_shards / "broken"

    def killed(work):
        next(work.glob("traces-*")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.curate.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            told_of(folder)
    assert told_of(folder) == told_of(three_shards / "whole")


def test_what_other_settings_or_rows_left_is_not_taken_up(three_shards, monkeypatch):
    folder = three_shards / "broken"
    with pytest.raises(KeyboardInterrupt):
        told_of(folder, interrupted_after(2))
    write_conversations(folder / "conversations" / "part-00000.parquet", mixed()[:2])
    judged, judge = [], Judge.judge
    monkeypatch.setattr(Judge, "judge", lambda self, cs: judged.append(len(cs)) or judge(self, cs))
    with pytest.raises(KeyboardInterrupt):
        told_of(folder, interrupted_after(3))  # among the bands: every shard is judged
    assert judged == [2, 4]
    judged.clear()
    told_of(folder, chosen=CurateSettings(marks=False))
    assert judged == [2, 4, 4]


def test_shards_judged_by_another_content_of_a_named_file_are_judged_again(
    three_shards, monkeypatch
):
    folder, benchmark = three_shards / "broken", three_shards / "own.txt"
    benchmark.write_text("How tall is the tower of the old church?\n")
    chosen = CurateSettings.model_validate({"decontamination": {"benchmarks": [str(benchmark)]}})
    with pytest.raises(KeyboardInterrupt):
        told_of(folder, interrupted_after(2), chosen)
    benchmark.write_text("How many bridges does the long river have?\n")
    judged, judge = [], Judge.judge
    monkeypatch.setattr(Judge, "judge", lambda self, cs: judged.append(len(cs)) or judge(self, cs))
    told_of(folder, chosen=chosen)
    assert judged == [4, 4, 4]
