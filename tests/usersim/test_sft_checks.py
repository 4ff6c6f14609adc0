"""Checks on the way, and going on after an interruption."""

from functools import partial

import pytest

from usersim.chat_format import FREE_SYSTEM, ChatFormat, load_tokenizer
from usersim.conversation import Conversation, Message
from usersim.errors import WorldError
from usersim.perplexity import mean_nll, score_rows
from usersim.ranks import train_model
from usersim.rows import ViewSettings, conversation_rows
from usersim.sft import Checks, FitSettings, _last_check, draw_rows

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
def test_the_state_that_held_out_people_liked_best_is_kept(tiny_checkpoint, lesson, tmp_path):
    chat, rows, held_out = lesson
    checks = Checks(held_out, tmp_path / "work")
    wild = SETTINGS.model_copy(update={"learning_rate": 0.5})  # it breaks the model on the way
    model, figures = train_model(tiny_checkpoint, rows, chat, wild, 0, checks)
    seen = [loss for _, loss in figures.checks]
    assert len(seen) >= 4
    assert nll(model.float(), held_out, chat) == pytest.approx(min(seen), abs=0.02)
    assert [tokens for tokens, _ in figures.checks] == sorted(
        tokens for tokens, _ in figures.checks
    )


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_ends_the_same(
    tiny_checkpoint, lesson, tmp_path, monkeypatch
):
    from transformers import TrainerCallback

    import usersim.trainer

    chat, rows, held_out = lesson
    whole, _ = train_model(
        tiny_checkpoint, rows, chat, SETTINGS, 0, Checks(held_out, tmp_path / "whole")
    )
    begun = []

    class Pulled(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            begun.append(state.global_step)

        def on_step_end(self, args, state, control, **kwargs):
            if len(begun) == 1 and state.global_step > state.max_steps * 0.6:
                raise KeyboardInterrupt

    monkeypatch.setattr(usersim.trainer, "_reporting", lambda job, bar: Pulled())
    again = partial(
        train_model, tiny_checkpoint, rows, chat, SETTINGS, 0, Checks(held_out, tmp_path / "cut")
    )
    with pytest.raises(KeyboardInterrupt):
        again()
    resumed, figures = again()
    assert begun[0] == 0
    assert begun[1] > 0
    seen = rows[: begun[1] * SETTINGS.batch_rows]
    assert figures.tokens_before == sum(len(row.input_ids) for row in seen)
    assert figures.target_tokens_before == sum(row.num_targets for row in seen)
    assert 0 < figures.check_seconds < figures.seconds
    assert nll(resumed.float(), held_out, chat) == pytest.approx(
        nll(whole.float(), held_out, chat), abs=1e-3
    )


@pytest.mark.parametrize("broken", [None, "", '{"global_step": 1'])
def test_a_checkpoint_whose_writing_was_interrupted_costs_only_itself(tmp_path, broken):
    checks = Checks([], tmp_path)
    assert _last_check(checks) is None
    for step in (5, 10, 15):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text('{"global_step": 5}')
    assert _last_check(checks) == str(tmp_path / "checkpoint-15")
    state = tmp_path / "checkpoint-15" / "trainer_state.json"
    state.unlink() if broken is None else state.write_text(broken)
    assert _last_check(checks) == str(tmp_path / "checkpoint-10")
    assert _last_check(None) is None


@pytest.mark.slow
def test_a_disk_that_is_full_amid_a_training_is_the_worlds_fault(
    tiny_checkpoint, lesson, tmp_path, monkeypatch
):
    def full(*args, **kwargs):
        raise RuntimeError("unexpected pos 576 vs 534")

    monkeypatch.setattr("torch.save", full)
    chat, rows, held_out = lesson
    with pytest.raises(WorldError, match="room on the disk"):
        train_model(tiny_checkpoint, rows, chat, SETTINGS, 0, Checks(held_out, tmp_path / "work"))
