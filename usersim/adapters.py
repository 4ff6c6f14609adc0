"""Adapters beside checkpoints: the same training as LoRA weights that an engine can serve.

Training merges its adapter into a full checkpoint. The adapter itself is kept beside it, so that
one engine can hold the untrained checkpoint once and play both roles. An end token that was trained
as a row of its own (PEFT's trainable tokens, which no engine serves) becomes what engines do serve:
an update of rank one to the embedding, and to the output head where that has the same weights.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from usersim.checkpoints import CARD
from usersim.files import write_json

if TYPE_CHECKING:
    import torch

FOLDER = "adapter"
"""Where a trained checkpoint's adapter is, inside its folder."""

WEIGHTS = "adapter_model.safetensors"
_ROWS = ".token_adapter."
_EMBEDDING, _HEAD = "base_model.model.model.embed_tokens", "base_model.model.lm_head"


class Adapter:
    """LoRA weights by their name in PEFT's files, and PEFT's settings for them."""

    def __init__(self, weights: "dict[str, torch.Tensor]", config: Any) -> None:
        self.weights, self.config = weights, config

    @classmethod
    def of(cls, model: Any) -> "Adapter":
        """The adapter of a PEFT model, before it is merged; weights in bf16, on the CPU."""
        import torch
        from peft import get_peft_model_state_dict

        config = model.peft_config["default"]
        found = {name: _whole(t) for name, t in get_peft_model_state_dict(model).items()}
        weights = {name: tensor for name, tensor in found.items() if "lora_" in name}
        indices = config.trainable_token_indices
        if indices:
            trained = next(tensor for name, tensor in found.items() if _is_rows(name))
            frozen = _whole(_frozen_embedding(model))
            change = trained.float().cpu() - frozen[indices].float().cpu()
            tied = bool(model.config.tie_word_embeddings)
            weights |= rows_as_lora(indices, change, config, len(frozen), tied=tied)
        return cls({n: t.detach().to("cpu", torch.bfloat16) for n, t in weights.items()}, config)

    @classmethod
    def read(cls, folder: Path) -> "Adapter":
        """What `save` wrote."""
        from peft import LoraConfig
        from safetensors.torch import load_file

        config = LoraConfig.from_pretrained(str(folder))
        return cls(load_file(str(folder / WEIGHTS)), config)

    def save(self, folder: Path) -> None:
        """Write it as PEFT does: adapter_config.json and adapter_model.safetensors."""
        from copy import deepcopy

        from safetensors.torch import save_file

        folder.mkdir(parents=True)
        config = deepcopy(self.config)
        config.trainable_token_indices = None
        config.inference_mode = True
        config.save_pretrained(str(folder))
        save_file(
            {name: tensor.contiguous() for name, tensor in self.weights.items()},
            str(folder / WEIGHTS),
            metadata={"format": "pt"},
        )


def save_adapter(model: Any, folder: Path, about: dict[str, Any]) -> None:
    """The adapter that was merged into `model`, if there was one; `about` goes beside it."""
    adapter: Adapter | None = getattr(model, "adapter", None)
    if adapter is not None:
        adapter.save(folder)
        write_json(folder / CARD, about)


def with_saved_adapter(model: Any, checkpoint: Path) -> Any:
    """The model, with the adapter that another process saved in its folder, if it did."""
    if (checkpoint / FOLDER).is_dir():
        model.adapter = Adapter.read(checkpoint / FOLDER)
    return model


def _whole(tensor: "torch.Tensor") -> "torch.Tensor":
    """The whole of a tensor that is spread over several devices; every process must ask."""
    gathered: torch.Tensor = getattr(tensor, "full_tensor", lambda: tensor)()
    return gathered


def _is_rows(name: str) -> bool:
    return "trainable_tokens" in name or _ROWS in name


def _frozen_embedding(model: Any) -> "torch.Tensor":
    """The embedding as it was before training: PEFT keeps trained rows apart."""
    embedding = model.get_input_embeddings()
    layer = getattr(embedding, "token_adapter", embedding)
    weight: torch.Tensor = getattr(layer, "base_layer", layer).weight
    return weight


def rows_as_lora(
    indices: list[int], change: "torch.Tensor", config: Any, vocabulary: int, *, tied: bool
) -> "dict[str, torch.Tensor]":
    """Changed embedding rows (`change`: a row an index) as LoRA weights of the adapter's own rank.

    Engines add `alpha / r` times the product, so one side is divided by that. Raises ValueError
    when there are more rows than ranks.
    """
    import torch

    rank, hidden = config.r, change.shape[1]
    if len(indices) > rank:
        raise ValueError(f"{len(indices)} trained tokens do not fit in an adapter of rank {rank}")
    chosen = torch.zeros(vocabulary, rank)
    values = torch.zeros(rank, hidden)
    for place, index in enumerate(indices):
        chosen[index, place] = 1.0
        values[place] = change[place] * rank / config.lora_alpha
    weights = {
        f"{_EMBEDDING}.lora_embedding_A": chosen.T.contiguous(),
        f"{_EMBEDDING}.lora_embedding_B": values.T.contiguous(),
    }
    if tied:
        weights[f"{_HEAD}.lora_A.weight"] = values.clone()
        weights[f"{_HEAD}.lora_B.weight"] = chosen.clone()
    return weights
