"""The trainer's own loss is the model's, at a fraction of the positions."""

import pytest

from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.conversation import Conversation, Message
from usersim.rows import Row, Target, ViewSettings, conversation_rows
from usersim.sft import FitSettings, load_model
from usersim.trainer import Job, labelled_loss


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
