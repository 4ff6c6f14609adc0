"""`fit`: real TRL training of a tiny model, and an ordinary checkpoint at the end."""

import json
from functools import partial

import pytest

from usersim.chat_format import FREE_SYSTEM, ChatFormat, load_tokenizer
from usersim.conversation import Conversation, Message
from usersim.errors import InputError, WorldError
from usersim.rows import ViewSettings, conversation_rows
from usersim.sft import FitFigures, FitSettings, draw_rows, fit, load_model, save_checkpoint

VIEW = ViewSettings(window=512, target_limit=120, context_limit=120)


def conversations(number=12):
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
        for i in range(number)
    ]


def rows_of(chat, target="user"):
    return partial(conversation_rows, chat=chat, target=target, view=VIEW)


def test_rates_are_of_this_calls_training_without_its_checks():
    figures = FitFigures(
        steps=9, rows=36, tokens=9_000, target_tokens=3_600, threads=1, seconds=25.0, losses=[],
        cpu_seconds=40.0, tokens_before=3_000, target_tokens_before=1_200,
        check_seconds=5.0, check_cpu_seconds=10.0,
    ).to_dict()  # fmt: skip
    rates = [figures[k] for k in ("tokens_per_s", "tokens_per_cpu_s", "target_tokens_per_s")]
    assert rates == [300.0, 200.0, 120.0]
    assert (figures["tokens"], figures["resumed_at_tokens"]) == (9_000, 3_000)


def test_drawing_is_the_same_for_any_order_of_the_input(chatml):
    cs = conversations()
    first = draw_rows(cs, rows_of(chatml), 2_000, seed=1)
    second = draw_rows(cs[::-1], rows_of(chatml), 2_000, seed=1)
    assert [r.conversation_id for r in first] == [r.conversation_id for r in second]
    assert sum(len(r.input_ids) for r in first) >= 2_000


def test_more_tokens_than_there_are_means_more_epochs(chatml):
    drawn = draw_rows(conversations(2), rows_of(chatml), 5_000, seed=1)
    ids = [r.conversation_id for r in drawn]
    assert set(ids) == {"c0", "c1"}
    assert abs(ids.count("c0") - ids.count("c1")) <= 1


def test_nothing_to_train_on_is_refused(chatml):
    question = [Conversation(id="q", messages=(Message("user", "hello?"),))]
    with pytest.raises(InputError, match="nothing to train on"):
        draw_rows(question, rows_of(chatml, "assistant"), 100, seed=1)


@pytest.mark.slow
# An adapter on random weights learns little: its embeddings and head stay as they are.
@pytest.mark.parametrize(("rank", "rate", "share"), [(8, 2e-2, 0.985), (0, 5e-3, 0.8)])
def test_training_lowers_the_loss_and_saves_an_ordinary_checkpoint(
    tiny_checkpoint, tmp_path, rank, rate, share
):
    from transformers import AutoModelForCausalLM

    chat = ChatFormat.of(load_tokenizer(tiny_checkpoint)).playing("user", FREE_SYSTEM)
    settings = FitSettings(view=VIEW, lora_rank=rank, learning_rate=rate)
    rows = draw_rows(conversations(), rows_of(chat), 15_000, seed=0)
    model, figures = fit(load_model(tiny_checkpoint, training=True), rows, chat, settings, seed=0)
    assert figures.losses[-1][1] < share * figures.losses[0][1]
    assert figures.steps == -(-len(rows) // settings.batch_rows)

    out = tmp_path / "user"
    save_checkpoint(model, chat, out, {"base": "tiny"})
    loaded = AutoModelForCausalLM.from_pretrained(str(out))
    assert loaded.generation_config.eos_token_id == [2, 0]
    again = ChatFormat.of(load_tokenizer(out))
    assert (again.opens, again.default_system) == ("user", FREE_SYSTEM)
    assert json.loads((out / "realchat.json").read_text())["opens"] == "user"


@pytest.mark.slow
def test_a_head_with_weights_of_its_own_learns_when_people_leave(tiny_checkpoint):
    import torch

    chat = ChatFormat.of(load_tokenizer(tiny_checkpoint)).playing("user", FREE_SYSTEM)
    model = load_model(tiny_checkpoint, training=True)
    model.config.tie_word_embeddings = False
    before = model.lm_head.weight.detach().clone()
    model.lm_head.weight = torch.nn.Parameter(before.clone())
    rows = draw_rows(conversations(), rows_of(chat), 2_000, seed=0)
    settings = FitSettings(view=VIEW, lora_rank=8, learning_rate=2e-2)
    trained, _ = fit(model, rows, chat, settings, seed=0)
    moved = (trained.lm_head.weight != before).any(1).nonzero().flatten().tolist()
    assert moved == [chat.end_of_conversation_id]
    assert trained.adapter.weights["base_model.model.lm_head.lora_A.weight"].any()


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_saved_leaves_nothing(tiny_checkpoint, tmp_path, monkeypatch):
    chat = ChatFormat.of(load_tokenizer(tiny_checkpoint))
    model = load_model(tiny_checkpoint, training=False)

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chat.tokenizer, "save_pretrained", full_disk)
    with pytest.raises(WorldError, match="No space left"):
        save_checkpoint(model, chat, tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []
