"""Which checkpoints vLLM is given: those that can chat, playing the role they were made for."""

import pytest

from tests.conftest import SPECIAL, byte_tokenizer
from usersim.chat_format import FREE_SYSTEM
from usersim.engines import EngineSpec, open_engine
from usersim.engines.vllm_engine import _chat_format
from usersim.errors import InputError


def test_a_base_model_without_a_chat_template_is_refused_before_anything_starts(tmp_path):
    byte_tokenizer(SPECIAL).save_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no chat template"):
        open_engine(EngineSpec(kind="vllm", model=str(tmp_path)))


def test_a_role_that_the_spec_names_wins_over_the_checkpoints_own(tmp_path, chatml):
    chatml.tokenizer.save_pretrained(str(tmp_path))
    assert _chat_format(tmp_path, None).opens == "assistant"
    user = _chat_format(tmp_path, "user")
    assert (user.opens, user.default_system) == ("user", FREE_SYSTEM)
