"""Two roles on one real engine: the adapter is the user's alone, even in one running batch."""

import asyncio

import pytest

from usersim.adapters import Adapter
from usersim.checkpoints import resolve_checkpoint
from usersim.conversation import Message
from usersim.engine import Sampling
from usersim.engines import EngineSpec, open_shared
from usersim.errors import InputError

MODEL = "smollm2-135m-instruct"
TALK = [Message("user", "hi there"), Message("assistant", "Hello! How are you?")]
GREEDY = Sampling(max_tokens=16, temperature=0)


def adapter_that_leaves(folder):
    """A LoRA adapter that changes the end token's row only: a user of TALK leaves at once."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from usersim.engines.vllm_engine import _chat_format

    checkpoint = resolve_checkpoint(MODEL)
    chat = _chat_format(checkpoint, "user")
    model = AutoModelForCausalLM.from_pretrained(str(checkpoint), dtype=torch.float32)
    with torch.no_grad():
        ids = torch.tensor([chat.prompt_ids(TALK)])
        heard = model.model(input_ids=ids).last_hidden_state[0, -1]
        highest = model.lm_head(heard).max()
        end = chat.end_of_conversation_id
        config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj"], task_type="CAUSAL_LM",
                            trainable_token_indices=[end])  # fmt: skip
        adapted = get_peft_model(model, config)
        rows = next(p for n, p in adapted.named_parameters() if "trainable_tokens" in n)
        rows[0] += 3 * highest * heard / heard.dot(heard)
    Adapter.of(adapted).save(folder)
    return folder


@pytest.mark.slow
def test_an_adapter_is_for_the_role_that_has_it(tmp_path):
    adapter = adapter_that_leaves(tmp_path / "adapter")
    specs = {
        "user": EngineSpec(model=MODEL, opens="user", name="u", adapter=str(adapter)),
        "assistant": EngineSpec(model=MODEL, opens="user", name="a"),
    }
    asyncio.run(_mixed_batch(open_shared(specs)))


async def _mixed_batch(engines):
    user, bare = engines["user"], engines["assistant"]
    try:
        turns = [e.complete(TALK, GREEDY) for e in (user, bare, user, bare)]
        left, stays, left_too, stays_too = await asyncio.gather(*turns)
        assert (left.text, left.completion_tokens) == ("", 1) == (left_too.text, 1)
        assert min(stays.completion_tokens, stays_too.completion_tokens) > 1
        assert user.host is bare.host
        await user.close()
        assert (await bare.complete(TALK, GREEDY)).text  # the engine is there for who is left
    finally:
        for engine in engines.values():
            await engine.close()


def test_one_engine_serves_one_checkpoint(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    specs = {role: EngineSpec(model=str(tmp_path / n)) for role, n in
             (("user", "one"), ("assistant", "two"))}  # fmt: skip
    with pytest.raises(InputError, match="two_engines"):
        open_shared(specs)
