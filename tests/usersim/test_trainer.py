"""The trainer's own loss is the model's, at a fraction of the positions."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.conversation import Conversation, Message
from usersim.rows import Row, Target, ViewSettings, conversation_rows
from usersim.sft import FitSettings, fit, load_model
from usersim.trainer import Job, _checked, dealt, fast_layers, labelled_loss, worth_compiling


@pytest.mark.slow
def test_labelled_loss_is_the_models_own_loss(tiny_checkpoint):
    import torch

    conversation = Conversation(
        id="c", messages=(Message("user", "how many legs?"), Message("assistant", "Four."))
    )
    view = ViewSettings(window=512, target_limit=120, context_limit=120)
    model = load_model(tiny_checkpoint, training=True).float()
    chat = ChatFormat.of(load_tokenizer(tiny_checkpoint))
    row = conversation_rows(conversation, chat, "user", view)[0]
    ids, labels = torch.tensor([row.input_ids]), torch.tensor([row.labels])
    mask = torch.ones_like(ids)
    ours = labelled_loss(model, {"input_ids": ids, "labels": labels, "attention_mask": mask}, None)
    theirs = model(input_ids=ids, labels=labels, attention_mask=mask).loss
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize(("rows", "batch", "expected"), [(5, 2, [0, 6, 12, 15]), (4, 4, [0, 12])])
def test_labelled_tokens_add_up_by_step(rows, batch, expected):
    row = Row("c", list(range(8)), [], [Target(0, 1, 4)])
    settings = FitSettings(batch_rows=batch)
    assert Job([row] * rows, None, settings, 0).targets_by_step() == expected


def row_of(length: int) -> Row:
    return Row("c", list(range(length)), [], [])


@given(
    lengths=st.lists(st.integers(1, 512), min_size=1, max_size=40),
    ranks=st.integers(1, 4),
    turns=st.integers(1, 3),
)
def test_dealing_rows_out_changes_no_step(lengths, ranks, turns):
    rows, size = [row_of(n) for n in lengths], ranks * turns
    found = dealt(rows, FitSettings(batch_rows=size), ranks)
    for start in range(0, len(rows), size):
        step, asked = found[start : start + size], rows[start : start + size]
        assert sorted(map(id, step)) == sorted(map(id, asked))


def test_every_process_gets_about_as_many_tokens_of_a_step():
    rows = [row_of(n) for n in (500, 400, 100, 30, 20, 10, 10, 40)]
    found = [len(row.input_ids) for row in dealt(rows, FitSettings(batch_rows=4), 2)]
    assert (found[0] + found[2], found[1] + found[3]) == (530, 500)
    assert (found[4] + found[6], found[5] + found[7]) == (50, 30)


def test_layers_are_compiled_where_that_pays_only(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    jobs = [Job([row_of(300)], None, FitSettings(compile_from_tokens=n), 0) for n in (300, 301)]
    assert [worth_compiling(job) for job in jobs] == [True, False]
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not worth_compiling(jobs[0])


@pytest.mark.parametrize(("bf16", "casts"), [(True, False), (False, True)])
def test_an_adapter_casts_where_autocast_does_not(bf16, casts):
    import torch

    layer = torch.nn.Linear(1, 1)
    layer.cast_input_dtype_enabled = True
    with fast_layers(layer, Job([], None, FitSettings(trl={"bf16": bf16}), 0)):
        assert layer.cast_input_dtype_enabled is casts
    assert layer.cast_input_dtype_enabled


@pytest.mark.slow
def test_fast_layers_learn_what_plain_ones_do(tiny_checkpoint):
    chat = ChatFormat.of(load_tokenizer(tiny_checkpoint))
    conversation = Conversation(
        id="c", messages=(Message("user", "how many legs?"), Message("assistant", "Four."))
    )
    row = conversation_rows(conversation, chat, "user", ViewSettings())[0]
    losses = []
    for compile_from in (10**9, 0):
        settings = FitSettings(compile_from_tokens=compile_from, lora_rank=4, processes=1)
        model = load_model(tiny_checkpoint, training=True)
        trained, figures = fit(model, [row] * 12, chat, settings, seed=0)
        losses.append(figures.losses[-1][1])
        assert not any(m._compiled_call_impl for m in trained.modules())
    plain, compiled = losses
    assert compiled == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize("rows", [3, 4, 1])
def test_every_process_asks_as_often_of_a_model_that_they_share(monkeypatch, rows):
    """Parts of a model in shards are fetched by all processes at once: one more would wait."""
    asked = Counter()

    def scored(rank, own, end_id):
        asked[rank] += len(own)
        return float(len(own)), float(len(own))

    monkeypatch.setattr("usersim.trainer.summed_nll", scored)
    for rank in (0, 1):
        args = SimpleNamespace(process_index=rank, world_size=2, device="cpu")
        sums = SimpleNamespace(reduce=lambda sums, reduction: sums + 1)  # another's share
        trainer = SimpleNamespace(args=args, model=rank, accelerator=sums)
        chat = SimpleNamespace(end_of_conversation_id=0)
        assert _checked(trainer, [row_of(8)] * rows, chat) == 1.0
    assert asked[0] == asked[1] == -(-rows // 2)


def test_the_recipe_for_eight_gpus_shards_the_weights(monkeypatch):
    import yaml
    from trl import SFTConfig

    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")  # transformers sets it
    recipe = yaml.safe_load((Path(__file__).parents[2] / "recipes/usergpt-8gpu.yaml").read_text())
    for stage in ("train_user", "train_assistant"):
        options = recipe[stage]["trl"]
        assert options["fsdp"] is True  # transformers 5.20 takes no words there
        plugin = SFTConfig(**options, use_cpu=True, bf16=False).fsdp_plugin_args
        assert plugin["reshard_after_forward"] is True
        assert plugin["auto_wrap_policy"] == "TRANSFORMER_BASED_WRAP"
