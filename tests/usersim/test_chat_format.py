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


def test_an_empty_conversation_opens_with_the_default_system(chatml):
    prompt = chatml.playing("user", FREE_SYSTEM).prompt_ids([])
    text = chatml.tokenizer.decode(prompt)
    assert text == f"<|im_start|>system\n{FREE_SYSTEM}<|im_end|>\n<|im_start|>user\n"


def test_a_tokenizer_of_no_known_family_is_refused(bare_tokenizer):
    with pytest.raises(InputError, match="no chat format fits"):
        ChatFormat.of(bare_tokenizer)
