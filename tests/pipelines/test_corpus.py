import random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus import CorpusSettings, build_corpus, in_order, test_ids, whole_folder
from pipelines.fidelity_rows import surface_rows
from usersim.conversation import Conversation, Message, Rejection, conversation_schema
from usersim.errors import InputError, WorldError
from usersim.files import write_conversations, write_rejections

NASTY = (
    "---\nlicense: stolen\n---\n# not a heading\n```\nout of the fence\n````\n"
    "{{ settings.license }} {% for x in y %} <script>alert(1)</script> | a | b |\n"
    "\x00\x1b[31m\u2028"
)
SMALL = CorpusSettings(name="Test: corpus #1 'quoted'", license="cc-by-4.0", min_test=2)


def conversation(i, opener=None, answer="It is so."):
    number = f"{i:03d}"
    messages = (
        Message("user", opener or f"question {number} about topic {i * 7}, told at length"),
        Message("assistant", answer),
        Message("user", "and why is that?"),
        Message("assistant", f"Because of {number}."),
    )
    return Conversation(
        id=f"c{number}", messages=messages, source="realchat", license="cc-by-4.0",
        stop_reason="user_ended", user_model="usergpt", assistant_model="smol|lm",
        recipe="abc", seed=i, user_tokens=12, assistant_tokens=9,
    )  # fmt: skip


def curated(folder, conversations, shards=2):
    size = -(-len(conversations) // shards)
    for number in range(shards):
        part = conversations[number * size : (number + 1) * size]
        write_conversations(folder / "curated" / f"part-{number:05d}.parquet", part)
    return folder / "curated"


def build(folder, conversations, chosen=SMALL, facts=None):
    source = curated(folder, conversations)
    return build_corpus(chosen, source, folder / "rejected", folder / "corpus", facts or {})


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def front_matter(folder):
    text = (folder / "corpus" / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def load(folder, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return datasets.load_dataset(str(folder / "corpus"), cache_dir=str(folder / "cache"))


def test_the_corpora_of_two_runs_are_not_taken_for_each_other(tmp_path, monkeypatch):
    """`datasets` caches a local folder by its name, and every run's is called corpus."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    for run in ("a", "b"):
        rows = [conversation(i, answer=f"So says {run}.") for i in range(30)]
        build(tmp_path / run, rows)
        folder, cache = str(tmp_path / run / "corpus"), str(tmp_path / "cache")
        loaded = datasets.load_dataset(folder, cache_dir=cache, split="train")
        assert {row["messages"][1]["content"] for row in loaded} == {f"So says {run}."}


def test_datasets_loads_both_splits_as_chat(tmp_path, monkeypatch):
    rows = [conversation(i) for i in range(30)]
    figures = build(tmp_path, rows)
    loaded = load(tmp_path, monkeypatch)
    assert {name: len(split) for name, split in loaded.items()} == figures["splits"]
    assert sum(figures["splits"].values()) == figures["conversations"] == 30
    assert loaded["train"].column_names[0] == "messages"
    by_id = {c.id: c for c in rows}
    for split in loaded.values():
        for row in split:
            assert Conversation.from_row(row) == by_id[row["id"]]


def test_messages_go_through_a_chat_template_as_they_are(tmp_path, monkeypatch):
    from jinja2 import Template

    build(tmp_path, [conversation(i) for i in range(4)])
    template = Template("{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}")
    row = load(tmp_path, monkeypatch)["train"][0]
    assert isinstance(row["messages"], list)
    assert [set(message) for message in row["messages"]] == [{"role", "content"}] * 4
    text = template.render(messages=row["messages"])
    assert text.startswith("<user>question")
    assert text.count("<assistant>") == 2


def test_the_front_matter_says_what_the_hub_needs(tmp_path):
    build(tmp_path, [conversation(i) for i in range(30)])
    head, _ = front_matter(tmp_path)
    assert head["license"] == "cc-by-4.0"
    assert head["language"] == ["en"]
    assert head["pretty_name"] == SMALL.name
    assert head["size_categories"] == ["n<1K"]
    assert head["task_categories"] == ["text-generation"]
    assert {"synthetic", "conversational", "user-simulator"} <= set(head["tags"])
    assert head["annotations_creators"] == ["machine-generated"]
    assert head["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train-*"},
        {"split": "test", "path": "data/test-*"},
    ]


def test_a_license_that_the_hub_does_not_know_is_named(tmp_path):
    build(tmp_path, [conversation(0)], CorpusSettings(license="My: own, terms"))
    head, _ = front_matter(tmp_path)
    assert (head["license"], head["license_name"]) == ("other", "My: own, terms")


def test_text_of_a_model_cannot_break_the_card(tmp_path, monkeypatch):
    rows = [conversation(i, opener=f"{i} {NASTY}", answer=NASTY) for i in range(4)]
    build(tmp_path, rows, facts={"models": {"user": NASTY}, "versions": {NASTY: NASTY}})
    head, body = front_matter(tmp_path)
    assert head["license"] == "cc-by-4.0"
    fences = [i for i, line in enumerate(body.splitlines()) if line.startswith("`````")]
    assert len(fences) == 2  # the example's own; no run of four backticks closes it
    outside = body.splitlines()[: fences[0]] + body.splitlines()[fences[1] + 1 :]
    assert not any("<script>" in line for line in outside)
    assert "{{ settings.license }}" in body
    assert not {"\x00", "\x1b", "\u2028"} & set(body)
    assert load(tmp_path, monkeypatch)["train"].num_rows == 4  # one cluster


def test_the_card_tells_what_made_it_and_what_was_dropped(tmp_path):
    gone = Rejection.of(conversation(99), "filters", "refusal")
    write_rejections(tmp_path / "rejected" / "curate.parquet", [gone, gone])
    stage = {"stage": "filters", "in": 6, "kept": 4, "rejected": 2, "reasons": {"refusal": 2}}
    facts = {"recipe": "0123abcd", "seed": 7, "versions": {"vllm": "0.32.0"},
             "figures": {"perplexity after": 16.9}, "funnel": [stage]}  # fmt: skip
    rows = [conversation(i) for i in range(4)]
    build(tmp_path, rows, facts=facts)
    _, body = front_matter(tmp_path)
    for line in (
        "| user | usergpt |",
        "| assistant | smol\\|lm |",
        "| recipe | 0123abcd |",
        "| random seed | 7 |",
        "| vllm | 0.32.0 |",
        "| perplexity after | 16.9 |",
        "| filters | 6 | 4 | 2 | refusal 2 |",
        "| realchat | cc-by-4.0 | 4 |",
    ):
        assert line in body.splitlines()
    build(tmp_path, rows)
    assert "| refusal | 2 |" in front_matter(tmp_path)[1].splitlines()


def test_the_card_holds_the_form_against_people_and_says_how_to_cite_it(tmp_path):
    near = {"value": 4.8, "floor": 3.4, "floor_high": 8.0, "within": True}
    far = near | {"value": 9.1, "within": False}
    surface = {"distance": {"words_later": near, "words_first": far}}
    facts = {
        "fidelity": surface_rows(surface),
        "revisions": {"the run's UserGPT": "d21762f7"},
        "charts": {"first": "<svg/>"},
        "recipe": "01}23",
    }
    build(tmp_path, [conversation(i) for i in range(4)], facts=facts)
    _, body = front_matter(tmp_path)
    near = "| distance: length of later turns (words) | 4.8 | 3.4 | 8 | within people's own range |"
    far = "| distance: length of the first turn (words) | 9.1 | 3.4 | 8 | farther than people are |"
    assert {near, far, "| the run's UserGPT, by content | d21762f7 |"} <= set(body.splitlines())
    assert "(images/words-first-turn.svg)" in body
    assert (tmp_path / "corpus" / "images" / "words-first-turn.svg").read_text() == "<svg/>"
    cited = body.partition("```bibtex")[2].partition("```")[0]
    assert "title = {Test: corpus 1 'quoted'}" in cited
    assert "recipe 01 23" in cited
    assert cited.count("{") == cited.count("}")


def test_the_card_states_benchmarks_training_people_and_masks(tmp_path):
    repeats = {"conversations": 6, "openers": 0.5, "longest": 41}
    facts = {
        "contamination": {
            "benchmarks": [{"name": "mt|bench", "questions": 80, "too_short": 2}],
            "ngram": 13, "max_edit_share": 0.2, "conversations": 6, "found": 2, "kept": 0,
        },
        "memorisation": {"simulated": repeats, "held_out_people": {"conversations": 0}},
        "mended": {"email": 3},
    }  # fmt: skip
    build(tmp_path, [conversation(i) for i in range(4)], facts=facts)
    body = " ".join(front_matter(tmp_path)[1].split())
    assert "mt\\|bench (80 questions, 2 too short to look for): 2 of 6 generated" in body
    assert "50.0 % began as a person did" in body
    assert "email 3 (personal data is masked" in body
    build(tmp_path, [conversation(i) for i in range(4)])
    assert "not compared with any benchmark" in front_matter(tmp_path)[1]


def test_the_same_conversations_give_the_same_bytes_in_any_order(tmp_path):
    rows = [conversation(i) for i in range(20)]
    build(tmp_path / "a", rows)
    random.Random(1).shuffle(rows)
    build(tmp_path / "b", rows)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a/corpus").rglob("*.*"))
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_shards_are_bounded_and_an_earlier_build_leaves_nothing(tmp_path, monkeypatch):
    rows = [conversation(i, answer="word " * 200) for i in range(40)]
    first = build(tmp_path, rows, SMALL.model_copy(update={"max_shard_bytes": 4096}))
    assert first["shards"] > 8
    second = build(tmp_path, rows)
    names = names_in(tmp_path / "corpus" / "data")
    assert names == ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]
    assert names_in(tmp_path / "corpus") == ["README.md", "data", "lineage"]
    assert first["splits"] == second["splits"]
    assert load(tmp_path, monkeypatch)["train"].num_rows == second["splits"]["train"]


OPENERS = st.lists(st.integers(0, 30), min_size=1, max_size=40)


@settings(max_examples=50, deadline=None)
@given(OPENERS, st.integers(0, 10), st.randoms(use_true_random=False))
def test_the_split_is_order_free_bounded_and_keeps_openers_together(kinds, min_test, shuffler):
    chosen = CorpusSettings(min_test=min_test)
    rows = [(f"c{i}", f"opener of kind number k{kind}") for i, kind in enumerate(kinds)]
    held_out = test_ids(*zip(*rows, strict=True), chosen)
    shuffled = shuffler.sample(rows, len(rows))
    assert test_ids(*zip(*shuffled, strict=True), chosen) == held_out
    assert len(held_out) <= len(rows) // 2
    openers = dict(rows)
    inside = {openers[row_id] for row_id, _ in rows if row_id in held_out}
    assert not inside & {opener for row_id, opener in rows if row_id not in held_out}


def test_distinct_openers_reach_the_number_to_hold_out():
    ids = [f"c{i}" for i in range(100)]
    openers = [f"{i} is a number, {i * 3} is another, tell me of {i * 5}" for i in range(100)]
    assert len(test_ids(ids, openers, CorpusSettings(min_test=20))) == 20
    assert len(test_ids(ids, openers, CorpusSettings(min_test=80))) == 50
    assert len(test_ids(ids, openers, CorpusSettings(min_test=0, test_share=0.3))) == 30


def test_nothing_curated_is_a_clear_input_error(tmp_path):
    with pytest.raises(InputError, match="no curated conversations"):
        build_corpus(SMALL, tmp_path / "none", tmp_path, tmp_path / "corpus", {})
    with pytest.raises(InputError, match="no curated conversations"):
        build(tmp_path, [])
    (tmp_path / "curated" / "part-00000.parquet").write_text("not Parquet")
    with pytest.raises(InputError, match="cannot read"):
        build_corpus(SMALL, tmp_path / "curated", tmp_path, tmp_path / "corpus", {})
    assert not (tmp_path / "corpus").exists()


def test_a_build_that_fails_leaves_the_corpus_as_it_was(tmp_path, monkeypatch):
    rows = [conversation(i) for i in range(6)]
    build(tmp_path, rows)
    before = {p: p.read_bytes() for p in (tmp_path / "corpus").rglob("*") if p.is_file()}

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(WorldError, match="No space left"):
        build_corpus(SMALL, tmp_path / "curated", tmp_path, tmp_path / "corpus", {})
    assert {p: p.read_bytes() for p in (tmp_path / "corpus").rglob("*") if p.is_file()} == before


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    def broken():
        with whole_folder(tmp_path / "data") as folder:
            (folder / "half").write_text("half")
            raise KeyboardInterrupt

    with whole_folder(tmp_path / "data") as folder:
        (folder / "one").write_text("1")
    with pytest.raises(KeyboardInterrupt):
        broken()
    assert names_in(tmp_path) == ["data"]
    assert names_in(tmp_path / "data") == ["one"]


@given(st.permutations(range(9)), st.integers(1, 9))
def test_rows_are_put_in_order_whatever_the_shards_and_portions(order, at_once):
    import pyarrow as pa

    rows = [conversation(i).to_row() | {"seed": None if i == 3 else i} for i in range(9)]
    shards = [pa.Table.from_pylist(rows[i : i + 4], conversation_schema()) for i in (0, 4, 8)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pipelines.corpus.ROWS_AT_ONCE", at_once)
        found = in_order(pa.concat_tables(shards), order)
    assert found.schema.equals(conversation_schema(), check_metadata=True)
    assert found.to_pylist() == [rows[i] for i in order]


@pytest.mark.slow
def test_a_corpus_may_hold_more_text_than_32_bits_count():
    """280 times the same eight megabytes; `Table.take` says: offset overflow."""
    import pyarrow as pa

    schema = conversation_schema()
    rows = [conversation(i, "x" * 2**18).to_row() for i in range(32)]
    table = pa.concat_tables([pa.Table.from_pylist(rows, schema)] * 280)
    with pytest.raises(pa.ArrowInvalid, match="offset overflow"):
        table.take([0])
    found = in_order(table, [table.num_rows - 1, 0, 33])
    assert found.column("id").to_pylist() == ["c031", "c000", "c001"]
