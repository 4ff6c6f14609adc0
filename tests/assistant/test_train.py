"""Training the assistant: the same fit, the mask on its turns, losses on real and made answers."""

from functools import partial

import pytest

from assistant.train import AssistantSettings, answered, read_split, train_assistant
from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.files import write_conversations
from usersim.rows import ViewSettings

VIEW = ViewSettings(window=512, target_limit=120, context_limit=120)


def conversation(name, answer="Four. Or so they say."):
    messages = (Message("user", f"how many legs has {name}"), Message("assistant", answer))
    return Conversation(id=name, messages=messages, stop_reason="user_ended")


@pytest.fixture
def folders(tmp_path):
    corpus, people = tmp_path / "corpus", tmp_path / "people"
    train = [conversation(f"a{i}") for i in range(12)]
    write_conversations(corpus / "data" / "train-00000-of-00001.parquet", train)
    test = [conversation(f"b{i}") for i in range(4)]
    write_conversations(corpus / "data" / "test-00000-of-00001.parquet", test)
    write_conversations(people / "test.parquet", [conversation(f"c{i}", "4") for i in range(4)])
    return corpus, people


@pytest.mark.slow
def test_both_losses_are_told_before_and_after_with_intervals(tiny_checkpoint, folders, tmp_path):
    corpus, people = folders
    settings = AssistantSettings(
        view=VIEW, train_tokens=12_000, lora_rank=0, learning_rate=5e-3, batch_rows=4
    )
    figures = train_assistant(settings, str(tiny_checkpoint), corpus, people, tmp_path / "out")
    for kind in ("real", "simulated"):
        loss = figures["loss"][kind]
        assert loss["conversations"] == 4
        for when in ("before", "after", "difference"):
            assert loss[when]["low"] <= loss[when]["mean"] <= loss[when]["high"]
    learned = figures["loss"]["simulated"]
    assert learned["difference"]["high"] < 0, "answers like those trained on became likelier"
    assert ChatFormat.of(load_tokenizer(tmp_path / "out")).opens == "assistant"


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_its_judges_teach_nothing(
    tiny_checkpoint, folders, tmp_path, monkeypatch
):
    corpus, people = folders
    asked = []

    def pulled(checkpoint, rows, chat, settings, seed, checks):
        asked.append((rows, checks))
        checks.folder.mkdir(parents=True, exist_ok=True)
        raise KeyboardInterrupt

    settings = AssistantSettings(
        view=VIEW, train_tokens=2_000, lora_rank=4, batch_rows=4, processes=1, checks=2
    )
    call = partial(
        train_assistant, settings, str(tiny_checkpoint), corpus, people, tmp_path / "out"
    )
    with monkeypatch.context() as patch:
        patch.setattr("assistant.train.train_model", pulled)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                call()
    (learned, checks), (_, again) = asked
    assert again.folder == checks.folder  # where the second one finds what the first one left
    taught, judges = ({row.conversation_id for row in rows} for rows in (learned, checks.rows))
    assert len(judges) == 1
    assert not taught & judges

    assert len(call()["training"]["checks"]) >= 2
    assert not checks.folder.parent.exists()


def test_a_corpus_without_a_test_split_is_refused(folders):
    corpus, _ = folders
    (corpus / "data" / "test-00000-of-00001.parquet").unlink()
    assert len(read_split(corpus, "train")) == 12
    with pytest.raises(InputError, match="realchat corpus"):
        read_split(corpus, "test")


def test_a_question_without_an_answer_teaches_no_assistant():
    question = Conversation(id="q", messages=(Message("user", "anybody?"),))
    assert answered([question, conversation("x")]) == [conversation("x")]
