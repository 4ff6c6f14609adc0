"""An adapter beside its checkpoint: the same change of the same weights."""

import json

import pytest

torch = pytest.importorskip("torch")


def trained(tied):
    """A small model with an adapter that has learned something, its end token's row included."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from usersim.trainer import end_rows

    torch.manual_seed(3)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
             "num_attention_heads": 2, "vocab_size": 40}  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=tied))
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM",
                        trainable_token_indices=end_rows(model, 7))  # fmt: skip
    adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name or "trainable_tokens" in name:
            parameter.data = torch.randn_like(parameter) * 0.3
    return adapted


@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_adapter_make_the_merged_weights(tmp_path, tied):
    from safetensors.torch import load_file

    from usersim.adapters import Adapter

    model = trained(tied)
    base = {n.replace(".base_layer", ""): p.clone() for n, p in model.named_parameters()
            if "base_layer" in n and "lora" not in n}  # fmt: skip
    Adapter.of(model).save(tmp_path / "adapter")
    lora = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["trainable_token_indices"]) == (4, None)
    merged = model.merge_and_unload()
    scale = config["lora_alpha"] / config["r"]
    q = "model.layers.0.self_attn.q_proj"
    left, right = (lora[f"base_model.model.{q}.lora_{side}.weight"].float() for side in "BA")
    weight = base[f"base_model.model.{q}.weight"] + scale * left @ right
    assert torch.allclose(weight, merged.get_submodule(q).weight, atol=0.02)
    place = "base_model.model.model.embed_tokens"
    rows = (lora[f"{place}.lora_embedding_B"] @ lora[f"{place}.lora_embedding_A"]).T.float()
    change = merged.model.embed_tokens.weight - frozen(base)
    assert torch.allclose(scale * rows, change, atol=0.02)
    assert change[7].any()
    assert not change[6].any()
    left, right = (lora[f"base_model.model.lm_head.lora_{side}.weight"].float() for side in "BA")
    spoken = merged.lm_head.weight - frozen(base, "embed_tokens" if tied else "lm_head")
    assert torch.allclose(scale * left @ right, spoken, atol=0.02)
    assert spoken[7].any()
    assert not spoken[6].any()
    assert torch.equal(spoken, change) is tied


def frozen(base, place="embed_tokens"):
    return next(p for n, p in base.items() if place in n)


def test_more_trained_tokens_than_ranks_are_refused():
    from types import SimpleNamespace

    from usersim.adapters import rows_as_lora

    change = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="3 trained tokens"):
        rows_as_lora([1, 2, 3], change, change, SimpleNamespace(r=2, lora_alpha=4), 9)


def test_what_was_saved_is_read_again_and_goes_with_the_model(tmp_path):
    from types import SimpleNamespace

    from usersim.adapters import FOLDER, Adapter, save_adapter, with_saved_adapter

    model = SimpleNamespace(adapter=Adapter.of(trained(tied=True)))
    save_adapter(model, tmp_path / FOLDER, {"opens": "user"})
    again = with_saved_adapter(SimpleNamespace(), tmp_path)
    assert again.adapter.weights.keys() == model.adapter.weights.keys()
    assert all(torch.equal(again.adapter.weights[n], t) for n, t in model.adapter.weights.items())
    assert again.adapter.config.r == 4
    assert json.loads((tmp_path / FOLDER / "realchat.json").read_text()) == {"opens": "user"}
    bare = SimpleNamespace()
    save_adapter(bare, tmp_path / "none", {})
    assert not (tmp_path / "none").exists()
    assert with_saved_adapter(bare, tmp_path / "none") is bare
