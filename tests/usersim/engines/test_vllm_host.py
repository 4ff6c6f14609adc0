"""What vLLM is told when it starts, without starting it."""

import json

import pytest

from usersim.engines import EngineSpec, vllm_host
from usersim.engines.vllm_host import gate_of, lora_arguments
from usersim.errors import InputError


def adapter(folder, rank):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return folder


def test_one_place_more_than_there_are_adapters(tmp_path):
    folders = [adapter(tmp_path / "a", 12), adapter(tmp_path / "b", 40)]
    told = lora_arguments(folders)
    assert told == {"enable_lora": True, "max_loras": 3, "max_lora_rank": 64}
    assert lora_arguments([]) == {}


def test_an_adapter_that_vllm_cannot_take_is_refused(tmp_path):
    with pytest.raises(InputError, match="rank 1024"):
        lora_arguments([adapter(tmp_path / "a", 1024)])


def test_a_gpu_engine_takes_the_devices_that_it_is_given(tmp_path):
    spec = EngineSpec(gpus="2,3", tensor_parallel=2)
    told = vllm_host._arguments(spec, tmp_path, 512, on_cpu=False)
    assert (told["tensor_parallel_size"], told["gpu_memory_utilization"]) == (2, 0.45)
    assert vllm_host._variables(spec)["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert "CUDA_VISIBLE_DEVICES" not in vllm_host._variables(EngineSpec())


def test_groups_are_for_the_cpu_and_for_who_asks(monkeypatch):
    monkeypatch.setattr("usersim.engines.vllm_host.has_tiles", lambda: False)
    assert gate_of(EngineSpec(), on_cpu=False).group == 1
    assert gate_of(EngineSpec(), on_cpu=True).group > 1
    monkeypatch.setattr("usersim.engines.vllm_host.has_tiles", lambda: True)
    assert gate_of(EngineSpec(), on_cpu=True).group == 1
    assert gate_of(EngineSpec(group=5), on_cpu=False).group == 5
    assert gate_of(EngineSpec(group=5, max_num_seqs=3), on_cpu=True).group == 3
