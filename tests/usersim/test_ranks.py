"""Training in several processes: the same as in one, and none is left behind."""

import os
import subprocess
import sys
from ast import literal_eval
from dataclasses import replace
from functools import partial

import pytest
from pydantic import ValidationError

from usersim import ranks
from usersim.chat_format import FREE_SYSTEM, ChatFormat, load_tokenizer
from usersim.conversation import Conversation, Message
from usersim.errors import InputError, WorldError
from usersim.perplexity import mean_nll, score_rows
from usersim.ranks import in_a_group, train_model, useful_processes
from usersim.rows import ViewSettings, conversation_rows
from usersim.sft import Checks, FitSettings, draw_rows

VIEW = ViewSettings(window=512, target_limit=120, context_limit=120)
SETTINGS = FitSettings(view=VIEW, lora_rank=8, learning_rate=2e-2, checks=4, processes=1)


def conversations(first, number):
    return [
        Conversation(
            id=f"c{i}",
            messages=(
                Message("user", f"how many legs has animal number {i}"),
                Message("assistant", "Four. Or so they say."),
                Message("user", "thx"),
                Message("assistant", "You are welcome."),
            ),
            stop_reason="user_ended",
        )
        for i in range(first, first + number)
    ]


@pytest.fixture(scope="module")
def lesson(tiny_checkpoint):
    """A chat format, rows to learn, and rows of people who are held out."""
    chat = ChatFormat.of(load_tokenizer(tiny_checkpoint)).playing("user", FREE_SYSTEM)
    rows_of = partial(conversation_rows, chat=chat, target="user", view=VIEW)
    held_out = [row for c in conversations(100, 4) for row in rows_of(c)]
    return chat, draw_rows(conversations(0, 12), rows_of, 8_000, seed=0), held_out


def nll(model, rows, chat):
    return mean_nll(score_rows(model, rows, chat.end_of_conversation_id, "score")).mean


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tiny_checkpoint, lesson, tmp_path):
    chat, rows, held_out = lesson
    rows = rows[: len(rows) // 2 * 2]  # whole steps: a lone last row would be shared out otherwise
    one, alone = train_model(tiny_checkpoint, rows, chat, SETTINGS, 0)
    two = SETTINGS.model_copy(update={"processes": 2})
    both, shared = train_model(tiny_checkpoint, rows, chat, two, 0)
    checked, _ = train_model(
        tiny_checkpoint, rows, chat, two, 0, Checks(held_out, tmp_path / "work")
    )
    assert (shared.processes, alone.processes) == (2, 1)
    measured = {"seconds": 0, "cpu_seconds": 0, "peak_gib": 0, "losses": []}
    assert replace(shared, **measured, processes=1) == replace(
        alone, **measured, threads=shared.threads
    )
    for (_, left), (_, right) in zip(alone.losses, shared.losses, strict=True):
        assert left == pytest.approx(right, rel=0.05)
    expected = nll(one.float(), held_out, chat)
    assert nll(both.float(), held_out, chat) == pytest.approx(expected, abs=0.03)
    assert nll(checked.float(), held_out, chat) <= expected + 0.03


def one_of_a_group(shared, checkpoint, settings):
    """What a launcher's process does; for a process of its own."""
    from torch import distributed

    distributed.init_process_group("gloo")
    chat = ChatFormat.of(load_tokenizer(checkpoint)).playing("user", FREE_SYSTEM)
    rows_of = partial(conversation_rows, chat=chat, target="user", view=VIEW)
    rows = draw_rows(conversations(0, 2), rows_of, 1_000, seed=0)

    def lead():
        model, figures = train_model(checkpoint, rows, chat, settings, 0)
        return model.num_parameters(), figures.processes

    told = in_a_group(shared, lead)
    (shared / f"told-{os.environ['RANK']}").write_text(repr(told))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_that_a_launcher_started_train_together(tiny_checkpoint, tmp_path):
    call = f"one_of_a_group(Path({str(tmp_path)!r}), Path({str(tiny_checkpoint)!r}), SETTINGS)"
    program = f"from pathlib import Path; from tests.usersim.test_ranks import *; {call}"
    port = ranks._free_port()
    environments = [os.environ | ranks._place(rank, 2, port) for rank in range(2)]
    group = [subprocess.Popen([sys.executable, "-c", program], env=e) for e in environments]
    assert [process.wait() for process in group] == [0, 0]
    parameters, processes = literal_eval((tmp_path / "told-0").read_text())
    assert processes == 2
    assert parameters > 10_000
    assert (tmp_path / "told-1").read_text() == "None"
    assert not list(tmp_path.glob("realchat-fit-*"))  # rows and weights are not left behind


@pytest.mark.slow
def test_a_process_that_dies_is_told_and_leaves_none_behind(tmp_path, lesson):
    chat, rows, _ = lesson
    with pytest.raises(WorldError, match="a training process ended with exit code 1"):
        train_model(
            tmp_path / "nowhere", rows, chat, SETTINGS.model_copy(update={"processes": 2}), 0
        )


def test_an_option_that_trl_does_not_have_is_refused_with_the_nearest(tmp_path):
    settings = SETTINGS.model_copy(update={"trl": {"bf16": False, "fsdb": "full_shard"}})
    with pytest.raises(InputError, match=r"trl\.fsdb is no option .* did you mean fsdp\?"):
        train_model(tmp_path, [], None, settings, 0)


def test_no_more_processes_than_rows_of_a_step(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert useful_processes(FitSettings(batch_rows=6, micro_batch_rows=2)) == 3
    assert useful_processes(FitSettings(batch_rows=64)) == 8
    assert useful_processes(FitSettings(batch_rows=4, micro_batch_rows=4)) == 1


def test_every_row_of_a_step_is_trained_on(monkeypatch):
    """Of 4 rows, shared out to 3 processes, each step would take 3 and the others be left over."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert useful_processes(FitSettings(batch_rows=4)) == 2
    assert useful_processes(FitSettings(batch_rows=6)) == 3
    for wrong in ({"micro_batch_rows": 4}, {"batch_rows": 4, "processes": 3}):
        with pytest.raises(ValidationError, match="no multiple of"):
            FitSettings(**wrong)


def test_rows_reach_the_processes_as_they_are_and_without_an_object_a_token(lesson, tmp_path):
    _, rows, _ = lesson
    ranks._write_rows(tmp_path / "rows.parquet", rows)
    found = ranks._read_rows(tmp_path / "rows.parquet")
    assert found == rows
    objects = {id(n) for row in found for n in (*row.input_ids, *row.labels)}
    assert len(objects) == len({n for row in rows for n in (*row.input_ids, *row.labels)})
