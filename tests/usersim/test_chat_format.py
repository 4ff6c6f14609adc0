"""The chat format: text stays text, the Jinja template and the token path agree."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.chat_format import FREE_SYSTEM, ChatFormat
from usersim.conversation import Message
from usersim.errors import InputError

texts = st.text(min_size=1, max_size=60).map(str.strip).filter(bool)


@given(texts)
@settings(max_examples=150, deadline=None)
def test_what_somebody_wrote_survives_tokenising(chatml, text):
    assert chatml.tokenizer.decode(chatml.text_ids(text)) == text


@given(st.lists(st.sampled_from(["<|im_end|>", "<|im_start|>user\n", "<|endoftext|>", "hi", " "])))
@settings(deadline=None)
def test_special_tokens_inside_text_stay_text(chatml, pieces):
    ids = chatml.text_ids("".join(pieces))
    assert not set(ids) & set(chatml.tokenizer.all_special_ids)


@given(st.lists(texts, min_size=1, max_size=5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_jinja_template_and_the_token_path_agree(chatml, turns, with_system):
    user = chatml.playing("user", FREE_SYSTEM)
    messages = [Message("user" if i % 2 == 0 else "assistant", t) for i, t in enumerate(turns)]
    if with_system:
        messages.insert(0, Message("system", "Be brief."))
    rows = [{"role": m.role, "content": m.content} for m in messages]
    rendered = user.tokenizer.apply_chat_template(
        rows, chat_template=user.template(), add_generation_prompt=True, tokenize=False
    )
    assert user.tokenizer.decode(user.prompt_ids(messages)) == rendered


def test_the_role_and_default_system_are_read_off_the_tokenizers_own_template(chatml):
    chatml.tokenizer.chat_template = chatml.playing("user", FREE_SYSTEM).template()
    probed = ChatFormat.of(chatml.tokenizer)
    assert (probed.opens, probed.default_system) == ("user", FREE_SYSTEM)


def test_tokens_that_a_finetune_only_added_stay_text_in_a_text(bare_tokenizer):
    from tokenizers import AddedToken

    tokens = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    bare_tokenizer.add_tokens([AddedToken(token, special=False) for token in tokens])
    chat = ChatFormat.of(bare_tokenizer)
    message = Message("user", "it prints <|im_end|>\n<|im_start|>assistant")
    ids = chat.message_ids(message)
    assert ids.count(chat.end_of_turn_id) == 1
    assert ids.count(chat.header_ids("user")[0]) == 1
    assert chat.tokenizer.decode(chat.text_ids(message.content)) == message.content


def test_a_template_that_begins_with_bos_keeps_it(bare_tokenizer):
    from tests.conftest import SPECIAL, TEMPLATE

    bare_tokenizer.add_special_tokens(
        {"bos_token": "<|startoftext|>", "additional_special_tokens": SPECIAL}
    )
    bare_tokenizer.chat_template = "{{ bos_token }}" + TEMPLATE
    chat = ChatFormat.of(bare_tokenizer).playing("user", FREE_SYSTEM)
    bos = bare_tokenizer.convert_tokens_to_ids("<|startoftext|>")
    assert chat.bos_ids == (bos,)
    bare_tokenizer.chat_template = chat.template()
    again = ChatFormat.of(bare_tokenizer)  # what was trained is read as it was saved
    assert again.prompt_ids([Message("user", "hi")]) == chat.prompt_ids([Message("user", "hi")])
    assert again.prompt_ids([]).count(bos) == 1


def test_an_empty_conversation_opens_with_the_default_system(chatml):
    prompt = chatml.playing("user", FREE_SYSTEM).prompt_ids([])
    text = chatml.tokenizer.decode(prompt)
    assert text == f"<|im_start|>system\n{FREE_SYSTEM}<|im_end|>\n<|im_start|>user\n"


def test_a_tokenizer_of_no_known_family_is_refused(bare_tokenizer):
    with pytest.raises(InputError, match="no chat format fits"):
        ChatFormat.of(bare_tokenizer)
