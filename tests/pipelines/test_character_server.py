"""Characters behind vLLM's own server: what would be started, and what it answers."""

import json
import os
import sys
from pathlib import Path

import pytest
from serving import free_port, serving
from typer.testing import CliRunner

from pipelines import character_server
from pipelines.character_server import server_command
from pipelines.cli import app
from usersim.errors import InputError

HERE = ("127.0.0.1", 8000)


def ran(*arguments):
    return CliRunner().invoke(app, ["characters", *map(str, arguments)])


def character(folder, base="smol", rank=12):
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / "realchat.json").write_text(json.dumps({"base": base, "character": "Ann"}))
    return folder


@pytest.fixture
def gpu_build(monkeypatch):
    monkeypatch.setattr(character_server, "is_cpu_build", lambda: False)


def test_one_character_is_served_merged_and_several_as_adapters_of_one_base(gpu_build, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    ann, bob = (character(tmp_path / name, str(base)) for name in ("ann", "bob"))
    alone = server_command([ann], *HERE)
    assert alone[:3] == ["vllm", "serve", str(ann)]
    assert "--enable-lora" not in alone
    both = server_command([ann, bob], *HERE)
    assert both[2] == str(base)
    assert both[both.index("--served-model-name") + 1] == "base"
    assert both[-2:] == [f"ann={ann}/adapter", f"bob={bob}/adapter"]
    assert both[both.index("--max-lora-rank") + 1] == "16"
    assert both[both.index("--max-loras") + 1] == "3"  # one place for who asks for the base
    shown = ran("serve", ann, bob, "--dry-run")
    assert shown.output.split() == both


def test_the_cpu_build_is_started_by_its_module(monkeypatch, tmp_path):
    monkeypatch.setattr(character_server, "is_cpu_build", lambda: True)
    command = server_command([character(tmp_path / "ann")], *HERE)
    assert command[:2] == [sys.executable, "-m"]
    assert command[command.index("--model") + 1] == str(tmp_path / "ann")


@pytest.mark.parametrize("program", [sys.executable, Path(sys.executable).name])
def test_the_server_takes_the_place_of_the_command(monkeypatch, tmp_path, program):
    """Whether it is named by its path or stands beside this environment's Python."""
    started = []
    monkeypatch.setattr(character_server, "server_command", lambda *a: [program, "-m", "x"])
    monkeypatch.setattr(os, "execve", lambda *call: started.append(call))
    assert ran("serve", character(tmp_path / "ann")).exit_code == 0
    path, command, environment = started[0]
    assert Path(path).is_absolute()
    assert command == [program, "-m", "x"]
    assert environment["PATH"] == os.environ["PATH"]


def test_characters_that_cannot_share_a_server_are_refused(tmp_path):
    ann, bob = character(tmp_path / "ann", "one"), character(tmp_path / "bob", "two")
    with pytest.raises(InputError, match="one base"):
        server_command([ann, bob], *HERE)
    with pytest.raises(InputError, match="one merged model"):
        server_command([ann, bob], *HERE, merged=True)
    with pytest.raises(InputError, match="one name"):
        server_command([ann, character(tmp_path / "x" / "ann", "one")], *HERE)
    assert ran("serve", tmp_path).exit_code == 2
    assert ran("chat", tmp_path).exit_code == 2


def test_a_character_whose_weights_were_trained_as_a_whole_is_served_alone(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    ann, whole = (character(tmp_path / name, str(base)) for name in ("ann", "whole"))
    (whole / "adapter" / "adapter_config.json").unlink()
    (whole / "adapter").rmdir()
    with pytest.raises(InputError, match="serve it alone"):
        server_command([ann, whole], *HERE)


@pytest.fixture(scope="module")
def trained(served_checkpoint, tmp_path_factory):
    """Two characters of one base, really trained, if not for long."""
    from assistant.characters.profile import find_profile
    from assistant.characters.train import CharacterSettings, make_experiences, train_character
    from assistant.characters.train import ExperienceSettings as Experiences

    folder = tmp_path_factory.mktemp("characters")
    view = {"window": 2048, "context_limit": 400}
    settings = CharacterSettings(
        train_tokens=3000, lora_rank=8, learning_rate=0.02, processes=1, view=view
    )
    for life in ("tamsin-orrow", "joram-pell"):
        profile = find_profile(life)
        made, _ = make_experiences(profile, Experiences(scenes=16), 7)
        train_character(settings, str(served_checkpoint), profile, made, folder / life)
    return [folder / "tamsin-orrow", folder / "joram-pell"]


@pytest.fixture(scope="module")
def server(trained, tmp_path_factory):
    """The base URL of `realchat characters serve A B`."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "pipelines.cli", "characters", "serve"]
    command += [*map(str, trained), "--port", str(port)]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    with serving(command, port, log, PYTHONPATH=path, HF_HUB_OFFLINE="1") as url:
        yield url


@pytest.mark.slow
def test_one_base_serves_several_characters_together(server, trained, served_checkpoint):
    """Each model name answers as its own weights do, and the base is still itself."""
    import httpx

    listed = {m["id"] for m in httpx.get(f"{server}/v1/models").json()["data"]}
    assert {folder.name for folder in trained} < listed
    names = [folder.name for folder in trained]
    base = served_checkpoint.name
    said = {name: _likelihood(httpx, server, name) for name in [*names, base]}
    assert len(set(said.values())) == 3
    again = {name: _likelihood(httpx, server, name) for name in said}
    assert again == pytest.approx(said, abs=0.02)


def _likelihood(httpx, server, name):
    """Of the likeliest first token, in nats: another one for other weights."""
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": "Who are you?"}]
    body = {"model": name, "messages": messages, "max_tokens": 1, "temperature": 0}
    body["logprobs"] = True
    answer = httpx.post(f"{server}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return round(answer.json()["choices"][0]["logprobs"]["content"][0]["logprob"], 3)
