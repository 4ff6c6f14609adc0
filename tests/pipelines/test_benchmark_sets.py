"""Benchmarks come from files of the layouts that they are published in."""

import json

import pytest

from pipelines.benchmark_sets import HUB, WEB, benchmark
from pipelines.decontamination import Contamination, DecontaminationSettings
from usersim.errors import InputError, WorldError


@pytest.mark.parametrize(
    "record",
    [
        {"question_id": 81, "category": "roleplay", "turns": ["How tall is it?", "And how wide?"]},
        {"prompt": ["How tall is it?", "And how wide?"]},
        {"turns": [{"content": "How tall is it?"}, {"content": "And how wide?"}]},
        {
            "messages": [
                {"role": "user", "content": "How tall is it?"},
                {"role": "assistant", "content": "Two metres."},
                {"role": "user", "content": "And how wide?"},
            ]
        },
    ],
)
def test_questions_of_several_turns(tmp_path, record):
    path = tmp_path / "question.jsonl"
    path.write_text(json.dumps(record) + "\n")
    assert benchmark(str(path)).questions == ("How tall is it?", "And how wide?")


def test_a_list_of_instructions_and_a_text_file(tmp_path):
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps([{"instruction": "Name a river.", "output": "The Inn."}, 3]))
    assert benchmark(str(path)).questions == ("Name a river.",)
    lines = tmp_path / "own.txt"
    lines.write_text("Name a river.\n\nName a lake.\n")
    assert benchmark(str(lines)).questions == ("Name a river.", "Name a lake.")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mt_bench", "one of mt-bench"),
        ("hub:owner/name", "hub:OWNER/NAME/FILE"),
    ],
)
def test_an_unknown_benchmark_says_what_there_is(name, said):
    with pytest.raises(InputError, match=said):
        benchmark(name)


def test_a_file_without_questions_is_refused(tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text('{"answer": 42}\n')
    with pytest.raises(InputError, match="holds no question"):
        benchmark(str(path))


def test_a_hub_that_cannot_be_reached_says_what_to_do(monkeypatch):
    import huggingface_hub

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(WorldError, match="fetch it by other means"):
        benchmark("mt-bench")


NAMED = {
    "mt-bench": {"prompt_id": 7, "prompt": ["How tall is it?", "And how wide?"], "reference": []},
    "alpaca-eval": {"instruction": "How tall is it?", "output": "Two metres.", "dataset": "own"},
    "arena-hard": {"uid": "0a", "category": "hard", "cluster": "own", "prompt": "How tall is it?"},
}


@pytest.mark.parametrize("name", NAMED)
def test_each_name_stands_for_a_file_of_the_hub_in_its_own_layout(tmp_path, monkeypatch, name):
    import huggingface_hub

    def fetched(repo, file, repo_type):
        assert (repo, file, repo_type) == (*HUB[name], "dataset")
        path, record = tmp_path / file.replace("/", "-"), NAMED[name]
        path.write_text(json.dumps([record] if file.endswith(".json") else record) + "\n")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetched)
    found = benchmark(name)
    assert (found.name, found.questions[0]) == (name, "How tall is it?")
    assert len(found.questions) == (2 if name == "mt-bench" else 1)


def test_what_is_on_no_hub_is_downloaded_once(tmp_path, monkeypatch):
    import httpx
    import huggingface_hub.constants

    asked = []

    def get(url, **_):
        asked.append(url)
        record = {"question_id": 1, "category": "generic", "turns": ["How tall is it?"]}
        return httpx.Response(200, text=json.dumps(record), request=httpx.Request("GET", url))

    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(httpx, "get", get)
    for _ in range(2):
        assert benchmark("vicuna-bench").questions == ("How tall is it?",)
    assert asked == [WEB["vicuna-bench"]]


def test_a_web_that_cannot_be_reached_says_what_to_do(tmp_path, monkeypatch):
    import httpx
    import huggingface_hub.constants

    def get(url, **_):
        return httpx.Response(404, request=httpx.Request("GET", url))

    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(httpx, "get", get)
    with pytest.raises(WorldError, match="fetch it by other means"):
        benchmark("vicuna-bench")
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_table_of_ones_own(tmp_path, ending):
    import pyarrow as pa
    from pyarrow import csv, parquet

    path = tmp_path / f"own.{ending}"
    table = pa.table({"id": [1, 2], "question": ["How tall is it?", "And how wide?"]})
    if ending == "csv":
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path)
    assert benchmark(str(path)).questions == ("How tall is it?", "And how wide?")


def test_a_csv_that_cannot_be_read_is_told(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("question\n" + "why " * 50_000)
    with pytest.raises(InputError, match="as CSV: field larger"):
        benchmark(str(path))


def test_files_of_one_name_are_counted_apart(tmp_path):
    """Most datasets call theirs test.jsonl."""
    sets = []
    for name, question in (("long", "How tall is the tower of the old church?"), ("short", "Why?")):
        path = tmp_path / name / "test.jsonl"
        path.parent.mkdir()
        path.write_text(json.dumps({"question": question}) + "\n")
        sets.append(benchmark(str(path)))
    told = Contamination(sets, DecontaminationSettings()).statement()["benchmarks"]
    assert told == [
        {"name": "test.jsonl", "questions": 1, "too_short": 0},
        {"name": "test.jsonl", "questions": 1, "too_short": 1},
    ]


def test_a_file_of_the_hub_is_called_by_its_dataset(tmp_path, monkeypatch):
    import huggingface_hub

    path = tmp_path / "test-00000-of-00001.jsonl"
    path.write_text('{"question": "How tall is it?"}\n')
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(path))
    assert benchmark("hub:some/maths/main/test.jsonl").name == "some/maths/main/test.jsonl"
