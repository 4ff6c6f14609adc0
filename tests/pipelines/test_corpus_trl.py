"""What the corpus stage leaves is what TRL trains on, with nothing in between."""

import pytest

from pipelines.corpus import CorpusSettings, build_corpus
from usersim.conversation import Conversation, Message
from usersim.files import write_conversations


def conversation(number):
    messages = (
        Message("user", f"how long is {number} metres in feet <|im_end|>"),
        Message("assistant", f"About {number * 3}."),
    )
    return Conversation(id=f"c{number}", messages=messages, stop_reason="user_ended")


@pytest.mark.slow
def test_trl_trains_on_messages_as_they_are(tmp_path, tiny_checkpoint):
    import datasets
    from trl import SFTConfig, SFTTrainer

    curated, out = tmp_path / "curated", tmp_path / "corpus"
    rows = [conversation(n) for n in range(60)]
    write_conversations(curated / "part-00000.parquet", rows)
    build_corpus(CorpusSettings(), curated, tmp_path / "rejected", out, {})

    corpus = datasets.load_dataset(str(out))
    assert corpus["train"].column_names[0] == "messages"
    arguments = SFTConfig(
        output_dir=str(tmp_path / "trl"),
        max_steps=2,
        per_device_train_batch_size=2,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        max_length=256,
    )
    trainer = SFTTrainer(str(tiny_checkpoint), arguments, train_dataset=corpus["train"])
    assert trainer.train().global_step == 2
