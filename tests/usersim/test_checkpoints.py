"""Checkpoints: what is not one is refused with what to do."""

import json

import pytest

from usersim.checkpoints import EMBEDDED, Embedded, cache_dir, resolve_checkpoint
from usersim.errors import InputError, WorldError


def test_a_folder_with_a_config_is_a_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert resolve_checkpoint(tmp_path) == tmp_path


def test_a_folder_without_a_config_is_not(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        resolve_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["smolm2", "./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_name_that_is_nothing_is_refused_and_the_embedded_ones_named(name):
    with pytest.raises(InputError, match="smollm2-135m-instruct"):
        resolve_checkpoint(name)


def test_a_missing_package_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("REALCHAT_CACHE", str(tmp_path))
    monkeypatch.setitem(EMBEDDED, "absent", Embedded("no_such_package", lambda p, s: p, "mit"))
    with pytest.raises(WorldError, match="make setup"):
        resolve_checkpoint("absent")


def test_a_failed_unpacking_leaves_nothing_behind(tmp_path, monkeypatch):
    def full_disk(package, scratch):
        (scratch / "half").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("REALCHAT_CACHE", str(tmp_path))
    monkeypatch.setitem(EMBEDDED, "broken", Embedded("json", full_disk, "mit"))
    with pytest.raises(WorldError, match="No space left"):
        resolve_checkpoint("broken")
    assert list(cache_dir().iterdir()) == []


@pytest.mark.slow
def test_the_embedded_model_loads_as_an_ordinary_checkpoint():
    folder = resolve_checkpoint("smollm2-135m-instruct")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    assert {p.suffix for p in folder.iterdir()} >= {".safetensors", ".jinja", ".json"}
