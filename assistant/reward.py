"""A reward model: a checkpoint with one output that says how good a conversation is.

Such models are made for preference training (`AutoModelForSequenceClassification`, one label); the
number has no fixed scale, so a threshold is chosen by looking at what it gives.
"""

from collections.abc import Sequence
from typing import Any

from usersim.checkpoints import resolve_checkpoint
from usersim.conversation import Message
from usersim.errors import InputError

BATCH = 8  # conversations at once, where the model knows what padding is


class RewardModel:
    """Scores conversations; takes seconds to open.

    Raises InputError for a checkpoint that is no reward model: several outputs, or no chat
    template.
    """

    def __init__(self, name: str, max_tokens: int = 2048) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = resolve_checkpoint(name)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype="auto")
        if model.config.num_labels != 1 or not self._tokenizer.chat_template:
            raise InputError(
                f"curate.judge.reward_model: {name} is no reward model for conversations: it needs"
                f" one output (it has {model.config.num_labels}) and a chat template"
            )
        self._model = model.to(self._device).eval()
        self._max_tokens = max_tokens

    def scores(self, conversations: Sequence[Sequence[Message]]) -> list[tuple[float, int]]:
        """Score and number of tokens read, for each conversation's turns.

        Of what is longer than `max_tokens` the end is read.
        """
        import torch

        found: list[tuple[float, int]] = []
        pad = self._model.config.pad_token_id
        batch = 1 if pad is None else BATCH  # the model finds a row's end by its padding
        with torch.inference_mode():
            for start in range(0, len(conversations), batch):
                rows = [self._ids(turns) for turns in conversations[start : start + batch]]
                longest = max(map(len, rows))
                ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
                mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])
                given = {"input_ids": ids.to(self._device), "attention_mask": mask.to(self._device)}
                logits = self._model(**given).logits[:, 0].float().tolist()
                found += [(value, len(row)) for value, row in zip(logits, rows, strict=True)]
        return found

    def _ids(self, turns: Sequence[Message]) -> list[int]:
        messages = [{"role": m.role, "content": self._plain(m.content)} for m in turns]
        ids: list[int] = self._tokenizer.apply_chat_template(messages, return_dict=False)
        return ids[-self._max_tokens :]

    def _plain(self, text: str) -> str:
        """The text, with a blank in whatever the tokenizer would take for a token of its own."""
        for token in self._tokenizer.all_special_tokens:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text
