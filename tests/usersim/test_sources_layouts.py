"""Of every layout a sample file, and exactly what it says."""

import gzip
import json
import re
from pathlib import Path

import pytest
import yaml

from usersim.conversation import Rejection
from usersim.errors import InputError
from usersim.sources import LAYOUTS, ColumnMap, Draft, Source, SourceSettings, read_source
from usersim.sources.draft import BadRecord
from usersim.sources.layouts import read_record

SAMPLES = Path(__file__).parents[1] / "data" / "sources"
PAGE = Path(__file__).parents[2] / "docs" / "sources.md"
VIENNA = [
    ("user", "My name is NAME_1. Which rivers cross Vienna?"),
    ("assistant", "The Danube, NAME_1, and the small river Wien."),
    ("user", "Is the second one navigable?"),
    ("assistant", "No, it is far too shallow for boats."),
]
BREAD = [
    ("user", "Can I bake bread without an oven?"),
    ("assistant", "Yes: a heavy pot with a lid on the stove does it."),
    ("user", "What heat should I use?"),
    ("assistant", "Low, with the lid closed."),
]
GOLDEN = {
    "messages.jsonl": [
        ("system", "You sell tickets."),
        ("user", "two for friday pls"),
        ("assistant", "Two seats, row five."),
    ],
    "sharegpt.json": [
        ("user", "is rain acid"),
        ("assistant", "Slightly, by carbon dioxide."),
    ],
    "wildchat.jsonl": [
        ("user", "how do i keep basil alive indoors"),
        (
            "assistant",
            "Give it six hours of light and water it when the top of the soil is dry.",
        ),
        ("user", "mine gets black spots tho"),
        (
            "assistant",
            "Black spots mostly come from wet leaves; water the soil, not the plant.",
        ),
    ],
    "lmsys.jsonl": VIENNA,
    "oasst.messages.jsonl": BREAD,
    "oasst.trees.jsonl": BREAD,
    "prism.jsonl": [
        ("user", "Should schools ban phones?"),
        ("assistant", "Some do; it helps attention but worries parents."),
        ("user", "and what do teachers say"),
        ("assistant", "Most of them welcome it."),
    ],
    "ultrachat.jsonl": [
        ("user", "What makes glass clear?"),
        ("assistant", "Its atoms let visible light pass."),
        ("user", "And coloured glass?"),
        ("assistant", "Metal oxides in it absorb some colours."),
    ],
    "baize.json": [
        ("user", "How do I fold a fitted sheet?"),
        ("assistant", "Tuck the corners into each other, then fold in thirds."),
        ("user", "Do all four corners go together?"),
        ("assistant", "Yes, one after the other."),
    ],
    "prompt.jsonl": [("user", "Name a fruit that floats."), ("assistant", "An apple does.")],
}
# Lineage of the first conversation: id, license, persons, how it ended.
LINEAGE = {
    "messages.jsonl": ("m1", "unstated", ("u9",), None),
    "sharegpt.json": ("s1_0", "unstated", (), None),
    "wildchat.jsonl": ("5f1d0a", "odc-by", ("c0ffee01" * 4, "beadfeed" * 4), None),
    "lmsys.jsonl": ("b1946ac9", "lmsys-chat-1m", (), None),
    "oasst.messages.jsonl": ("p1", "apache-2.0", ("ann",), "cut"),
    "oasst.trees.jsonl": ("p1", "apache-2.0", ("ann",), "cut"),
    "prism.jsonl": ("c41", "cc-by-nc-4.0", ("user7",), None),
    "ultrachat.jsonl": ("0", "unstated", (), "cut"),
    "baize.json": ("baize-0-b7932012", "research-only", (), "cut"),
    "prompt.jsonl": ("prompt-0-72c8b364", "unstated", (), "cut"),
}


def said(draft):
    return [(m.role, m.content) for m in draft.messages]


def read(path, **settings):
    return list(Source(SourceSettings(source=str(path), **settings)))


def drafts(path):
    return [found for found in read(path) if isinstance(found, Draft)]


def written(path, *records):
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return path


def test_every_layout_has_a_sample():
    assert {name.partition(".")[0] for name in GOLDEN} == set(LAYOUTS)


def test_the_page_about_sources_tells_of_every_layout_and_its_map_is_valid():
    page = PAGE.read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert told == list(LAYOUTS)
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    settings = SourceSettings.model_validate(yaml.safe_load(example)["ingest"])
    assert set(settings.model_fields_set) == {"source", "subset", "split", "license", "columns"}
    assert settings.columns.model_fields_set == set(ColumnMap.model_fields)


@pytest.mark.parametrize("name", GOLDEN)
class TestEverySample:
    def test_is_recognised_and_says_what_it_says(self, name):
        first = drafts(SAMPLES / name)[0]
        assert said(first) == GOLDEN[name]

    def test_keeps_its_lineage(self, name):
        first = drafts(SAMPLES / name)[0]
        assert (first.id, first.license, first.persons, first.stop_reason) == LINEAGE[name]
        assert first.source == name.removesuffix(".json").removesuffix(".jsonl")

    def test_reads_the_same_when_its_layout_is_chosen(self, name):
        shape = name.partition(".")[0]
        chosen = [d for d in read(SAMPLES / name, format=shape) if isinstance(d, Draft)]
        assert [said(d) for d in chosen] == [said(d) for d in drafts(SAMPLES / name)]

    def test_is_refused_as_any_other_layout(self, name):
        own = name.partition(".")[0]
        for shape in set(LAYOUTS) - {own, "wildchat", "lmsys"}:
            found = read(SAMPLES / name, format=shape)
            assert {r.reason for r in found} == {"unknown_shape"}

    def test_reads_the_same_packed_by_gzip(self, name, tmp_path):
        packed = tmp_path / f"{name}.gz"
        packed.write_bytes(gzip.compress((SAMPLES / name).read_bytes()))
        assert read(packed) == read(SAMPLES / name)

    def test_comes_back_from_the_plain_layout(self, name, tmp_path):
        found = drafts(SAMPLES / name)
        rows = [
            {
                "id": d.id,
                "license": d.license,
                "source": d.source,
                "messages": [{"role": m.role, "content": m.content} for m in d.messages],
            }
            for d in found
        ]
        again = list(read_source(str(written(tmp_path / "plain.jsonl", *rows))))
        assert [(d.id, d.messages, d.license, d.source) for d in again] == [
            (d.id, d.messages, d.license, d.source) for d in found
        ]


class TestLicense:
    def test_the_recipe_comes_before_what_is_known(self):
        (first, _) = read(SAMPLES / "wildchat.jsonl", license="my own")
        assert first.license == "my own"

    def test_the_row_comes_before_the_recipe(self, tmp_path):
        record = json.loads((SAMPLES / "ultrachat.jsonl").read_text())
        path = written(tmp_path / "a.jsonl", record | {"license": "cc0-1.0"})
        assert read(path, license="mit")[0].license == "cc0-1.0"

    def test_a_layout_that_many_corpora_have_names_none_unless_chosen(self):
        assert read(SAMPLES / "ultrachat.jsonl")[0].license == "unstated"
        assert read(SAMPLES / "ultrachat.jsonl", format="ultrachat")[0].license == "mit"


class TestRefused:
    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            ({"conversation_id": "a", "conversation": []}, "empty_conversation"),
            ({"conversation_id": "a", "conversation": [{"role": "user"}]}, "malformed_message"),
            ({"conversation": [{"role": "user", "content": "x"}]}, "unknown_shape"),
            ({"conversation_history": [{"role": "user", "content": "x"}]}, "malformed_message"),
            (
                {"conversation_history": [{"turn": 0, "role": "judge", "content": "x"}]},
                "unknown_role",
            ),
            ({"data": [1, 2]}, "unknown_shape"),
            ({"data": []}, "empty_conversation"),
            ({"input": "[|Human|] a\n[|Judge|] b"}, "unknown_role"),
            ({"prompt": "a"}, "unknown_shape"),
            ({"prompt": "a", "completion": 7}, "malformed_message"),
            ({"prompt": "a \ud83d", "completion": "b"}, "not_utf8"),
        ],
    )
    def test_with_its_reason(self, tmp_path, record, reason):
        (found,) = read(written(tmp_path / "a.jsonl", record))
        assert isinstance(found, Rejection)
        assert found.reason == reason

    @pytest.mark.parametrize(
        ("record", "wrong"),
        [
            ({"id": 1, "messages": None}, "messages is None, wanted is `messages` with a list"),
            ({"conversation": "talk"}, "conversation is 'talk', wanted is `conversation` with"),
            ({"data": [{"a": 1}]}, "data is [{'a': 1}], wanted is `data` of texts"),
        ],
    )
    def test_a_column_that_could_not_be_used_is_named(self, tmp_path, record, wrong):
        (found,) = read(written(tmp_path / "a.jsonl", record))
        assert found.reason == "unknown_shape"
        assert found.detail.startswith("no known layout in ")
        assert wrong in found.detail

    def test_unknown_roles_are_told_by_name_and_number(self):
        found = read(SAMPLES / "lmsys.jsonl")
        rejected = [r for r in found if isinstance(r, Rejection)]
        assert [(r.id, r.reason) for r in rejected] == [("2cc4f0e1", "unknown_role")]
        assert "'observer' is none of" in rejected[0].detail

    def test_two_conversations_in_a_record_need_a_choice(self, tmp_path):
        both = {
            "messages": [{"role": "user", "content": "one"}],
            "conversations": [{"from": "human", "value": "another"}],
        }
        path = written(tmp_path / "a.jsonl", both)
        (found,) = read(path)
        assert found.reason == "ambiguous_layout"
        assert "ingest.format=messages or ingest.format=sharegpt" in found.detail
        assert said(read(path, format="sharegpt")[0]) == [("user", "another")]

    def test_the_same_conversation_twice_in_a_record_needs_none(self, tmp_path):
        both = {
            "messages": [{"role": "user", "content": "one"}],
            "conversations": [{"from": "human", "value": "one"}],
        }
        (found,) = read(written(tmp_path / "a.jsonl", both))
        assert said(found) == [("user", "one")]

    def test_a_gzip_file_that_is_cut_off(self, tmp_path):
        packed = gzip.compress((SAMPLES / "wildchat.jsonl").read_bytes())
        (tmp_path / "a.jsonl.gz").write_bytes(packed[:-40])
        with pytest.raises(InputError, match="no whole gzip file"):
            read(tmp_path / "a.jsonl.gz")


def test_baize_markers_inside_a_line_are_text(tmp_path):
    text = "[|Human|] what is [|AI|] in a prompt?\n[|AI|] A marker."
    (found,) = read(written(tmp_path / "a.jsonl", {"topic": "t", "input": text}))
    assert said(found) == [("user", "what is [|AI|] in a prompt?"), ("assistant", "A marker.")]


def test_a_sharegpt_record_that_says_so_is_not_scraped(tmp_path):
    record = json.loads((SAMPLES / "sharegpt.json").read_text())[0]
    scraped, plain = read(written(tmp_path / "a.jsonl", record, record | {"scraped": False}))
    assert (scraped.scraped, plain.scraped) == (True, False)


def test_only_the_first_records_are_read(tmp_path):
    path = written(tmp_path / "a.jsonl", *[{"data": [f"hello {n}", "hi"]} for n in range(9)])
    source = Source(SourceSettings(source=str(path), max_records=4))
    assert [d.id[:4] for d in source] == ["a-0-", "a-1-", "a-2-", "a-3-"]
    assert [file.records for file in source.files] == [4]


def test_content_in_parts_is_one_text_and_what_is_no_text_is_refused():
    """As chat APIs log it. A picture is nothing that a user of text could have typed."""
    parts = [{"type": "text", "text": "hello there"}, {"type": "text", "text": "how are you"}]
    answer = {"role": "assistant", "content": [{"type": "text", "text": "Fine."}]}
    _, reading = read_record({"messages": [{"role": "user", "content": parts}, answer]}, "auto")
    assert [m.content for m in reading.messages] == ["hello there\nhow are you", "Fine."]
    picture = [*parts, {"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(BadRecord) as refused:
        read_record({"messages": [{"role": "user", "content": picture}, answer]}, "auto")
    assert refused.value.reason == "malformed_message"
