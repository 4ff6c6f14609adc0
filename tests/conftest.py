"""Fixtures that many tests share: a small byte-level tokenizer and a tiny random-weight model."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # what a busy machine does is no failure
settings.load_profile("untimed")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


STATUS = pytest.StashKey[int]()


def pytest_sessionfinish(session, exitstatus):
    session.config.stash[STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Where clusters were started here, end as their drivers do: `leave` says why."""
    if "ray" in sys.modules and STATUS in config.stash and not hasattr(config, "workerinput"):
        from ray_jobs.program import leave

        leave(config.stash[STATUS])


def byte_tokenizer(special):
    """A byte-level BPE tokenizer without merges: 256 bytes and the special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    names = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"} if special else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, additional_special_tokens=special, **names
    )


@pytest.fixture(scope="module")
def chatml():
    """A ChatFormat over the byte tokenizer with ChatML's special tokens."""
    from usersim.chat_format import ChatFormat

    tokenizer = byte_tokenizer(SPECIAL)
    tokenizer.chat_template = TEMPLATE
    return ChatFormat.of(tokenizer)


@pytest.fixture
def bare_tokenizer():
    """A tokenizer without any special token."""
    return byte_tokenizer([])


def random_checkpoint(folder: Path, hidden_size: int, heads: int) -> Path:
    """A folder with a random-weight Llama of two layers and a ChatML tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer(SPECIAL)
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden_size, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=heads, num_key_value_heads=heads // 2,
        max_position_embeddings=2048, eos_token_id=2, pad_token_id=2, bos_token_id=1,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A random-weight Llama of some 60,000 parameters."""
    return random_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint", 32, 4)


@pytest.fixture(scope="session")
def served_checkpoint(tmp_path_factory) -> Path:
    """One whose heads are large enough for vLLM's attention kernels."""
    return random_checkpoint(tmp_path_factory.mktemp("served") / "checkpoint", 128, 2)
