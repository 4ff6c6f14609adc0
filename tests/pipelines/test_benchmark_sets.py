"""Benchmarks come from files of the layouts that they are published in."""

import json

import pytest

from pipelines.benchmark_sets import benchmark
from usersim.errors import InputError, WorldError


@pytest.mark.parametrize(
    "record",
    [
        {"question_id": 81, "turns": ["How tall is it?", "And how wide?"]},
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
        ("vicuna-bench", "fetch fastchat"),
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
