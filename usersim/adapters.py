"""Adapters beside checkpoints: the same training as LoRA weights that an engine can serve.

Training merges its adapter into a full checkpoint. The adapter itself is kept beside it, so that
one engine can hold the untrained checkpoint once and play both roles. An end token that was trained
as a row of its own (PEFT's trainable tokens, which no engine serves) becomes what engines do serve:
an update of rank one to the embedding and to the output head.
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
        if config.trainable_token_indices:
            rows = {name: tensor for name, tensor in found.items() if _is_rows(name)}
            weights |= _rows_of(model, config, rows)
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


def _rows_of(model: Any, config: Any, rows: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """The trained `rows` of a model, as LoRA weights."""
    told = config.trainable_token_indices
    indices = next(iter(told.values())) if isinstance(told, dict) else told
    embedding = _whole(_frozen(model.get_input_embeddings()))
    of_head = next((t for name, t in rows.items() if name.startswith(_HEAD)), None)
    of_embedding = next(t for name, t in rows.items() if not name.startswith(_HEAD))
    change = of_embedding.float().cpu() - embedding[indices].float().cpu()
    heads = change
    if of_head is not None and not model.config.tie_word_embeddings:
        head = _whole(_frozen(model.get_output_embeddings()))
        heads = of_head.float().cpu() - head[indices].float().cpu()
    return rows_as_lora(indices, change, heads, config, len(embedding))


def _frozen(module: Any) -> "torch.Tensor":
    """An embedding or a head as it was before training: PEFT keeps trained rows apart."""
    layer = getattr(module, "token_adapter", module)
    weight: torch.Tensor = getattr(layer, "base_layer", layer).weight
    return weight


def rows_as_lora(
    indices: list[int], change: "torch.Tensor", heads: "torch.Tensor", config: Any, vocabulary: int
) -> "dict[str, torch.Tensor]":
    """Changed rows of the embedding and of the head as LoRA weights of the adapter's own rank.

    `change` and `heads` have a row an index.

    Engines add `alpha / r` times the product, so one side is divided by that. Raises ValueError
    when there are more rows than ranks.
    """
    import torch

    rank, hidden = config.r, change.shape[1]
    if len(indices) > rank:
        raise ValueError(f"{len(indices)} trained tokens do not fit in an adapter of rank {rank}")
    chosen = torch.zeros(vocabulary, rank)
    spoken, heard = torch.zeros(rank, hidden), torch.zeros(rank, hidden)
    for place, index in enumerate(indices):
        chosen[index, place] = 1.0
        heard[place] = change[place] * rank / config.lora_alpha
        spoken[place] = heads[place] * rank / config.lora_alpha
    return {
        f"{_EMBEDDING}.lora_embedding_A": chosen.T.contiguous(),
        f"{_EMBEDDING}.lora_embedding_B": heard.T.contiguous(),
        f"{_HEAD}.lora_A.weight": spoken,
        f"{_HEAD}.lora_B.weight": chosen,
    }
