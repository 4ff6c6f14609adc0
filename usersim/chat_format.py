"""Chat formats: how messages become tokens, and which of those tokens somebody typed.

One object serves training, perplexity and every engine, so that what a model is trained on is what
it is later shown. Each message's text is tokenised on its own with special tokens switched off: a
text that contains `<|im_end|>` stays text, it cannot end a turn. Roles keep their own names.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from usersim.conversation import Message, Role
from usersim.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FREE_SYSTEM = "You are a person who is talking with an AI assistant."
"""What UserGPT is told when nothing is known about the person: the default of its chat template."""


@dataclass(frozen=True, slots=True)
class Family:
    """The special tokens of one family of chat templates.

    A turn reads: `open` role `header_end` text `turn_end` `separator`.
    """

    name: str
    bos: str
    open: str
    header_end: str
    turn_end: str
    separator: str
    conversation_end: tuple[str, ...]
    """Tokens that may stand for "the person left", best first; unused inside any turn."""
    role_names: dict[str, str]


_PLAIN = {"system": "system", "user": "user", "assistant": "assistant"}
FAMILIES = (
    Family(
        "chatml", "", "<|im_start|>", "\n", "<|im_end|>", "\n", ("<|endoftext|>", "</s>"), _PLAIN
    ),
    Family(
        "gemma",
        "<bos>",
        "<start_of_turn>",
        "\n",
        "<end_of_turn>",
        "\n",
        ("<eos>",),
        {"system": "system", "user": "user", "assistant": "model"},
    ),
    Family(
        "llama3",
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>\n\n",
        "<|eot_id|>",
        "",
        ("<|end_of_text|>",),
        _PLAIN,
    ),
)


class ChatFormat:
    """Turns messages into token ids for one tokenizer. Made by `of`.

    `opens` is whose turn the tokenizer's own chat template asks for: "user" for a UserGPT, else
    "assistant". `default_system` is the system text that it puts before a conversation without one.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        family: Family,
        opens: Role = "assistant",
        default_system: str = "",
    ) -> None:
        self.tokenizer = tokenizer
        self.family = family
        self.opens = opens
        self.default_system = default_system
        self.end_of_turn_id = _token_id(tokenizer, family.turn_end)
        self.end_of_conversation_id = _first_known(tokenizer, family.conversation_end)
        self._close([family.open, family.turn_end])
        self._bos = self._ids(family.bos, special=True)
        self._separator = self._ids(family.separator, special=True)
        self._text_ids = lru_cache(maxsize=65_536)(self._ids)
        self._header = {role: self._header_ids(role) for role in family.role_names}

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> Self:
        """The format whose special tokens this tokenizer has. Raises InputError when it has none.

        A tokenizer without a chat template (a base model's) gets the family's plain one.
        """
        for family in FAMILIES:
            needed = [family.open, family.turn_end, *filter(None, [family.bos])]
            if all(_is_known(tokenizer, token) for token in needed):
                return cls(tokenizer, *_probe(tokenizer, family))
        names = ", ".join(family.name for family in FAMILIES)
        raise InputError(
            f"{tokenizer.name_or_path}: no chat format fits its special tokens (known: {names}); "
            "choose a checkpoint with a chat template of one of these families"
        )

    def text_ids(self, text: str) -> tuple[int, ...]:
        """Token ids of a text that somebody wrote; special tokens inside it are plain text."""
        return self._text_ids(text)

    def header_ids(self, role: Role) -> tuple[int, ...]:
        """Ids that open a turn of `role`."""
        return self._header[role]

    @property
    def bos_ids(self) -> tuple[int, ...]:
        """Ids that every prompt begins with."""
        return self._bos

    @property
    def separator_ids(self) -> tuple[int, ...]:
        """Ids between the end of a turn and the next header."""
        return self._separator

    def message_ids(self, message: Message) -> list[int]:
        """A whole turn: header, text, end of turn, separator."""
        text = self.text_ids(message.content)
        return [*self._header[message.role], *text, self.end_of_turn_id, *self._separator]

    def playing(self, opens: Role, default_system: str) -> "ChatFormat":
        """The same format for a model that plays another role."""
        return ChatFormat(self.tokenizer, self.family, opens, default_system)

    def with_system(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, the default system text before them if they have none."""
        if self.default_system and (not messages or messages[0].role != "system"):
            return [Message("system", self.default_system), *messages]
        return list(messages)

    def prompt_ids(self, messages: Sequence[Message], opens: Role | None = None) -> list[int]:
        """Ids of all messages and the header of the next turn, by `opens` or the model's own role.

        Texts are tokenised once and remembered, so that a longer history costs its new text only.
        """
        ids = list(self._bos)
        for message in self.with_system(messages):
            ids += self.message_ids(message)
        ids += self._header[opens or self.opens]
        return ids

    def template(self) -> str:
        """A Jinja chat template that renders what `prompt_ids` encodes, for any server."""
        f, default_system = self.family, self.default_system
        names = json.dumps(f.role_names)
        header = f"{_quote(f.open)} + names[message['role']] + {_quote(f.header_end)}"
        turn = f"{header} + (message['content'] | trim) + {_quote(f.turn_end + f.separator)}"
        system = _quote(f.open + f.role_names["system"] + f.header_end + default_system)
        intro = (
            "{%- if not messages or messages[0]['role'] != 'system' %}{{- "
            f"{system} + {_quote(f.turn_end + f.separator)} }}}}{{%- endif %}}"
            if default_system
            else ""
        )
        opening = _quote(f.open + f.role_names[self.opens] + f.header_end)
        return (
            f"{{%- set names = {names} %}}{{{{- {_quote(f.bos)} }}}}{intro}"
            f"{{%- for message in messages %}}{{{{- {turn} }}}}{{%- endfor %}}"
            f"{{%- if add_generation_prompt %}}{{{{- {opening} }}}}{{%- endif %}}"
        )

    def _header_ids(self, role: str) -> tuple[int, ...]:
        f = self.family
        return self._ids(f.open + f.role_names[role] + f.header_end, special=True)

    def _close(self, tokens: Sequence[str]) -> None:
        """Make these special where some finetune only added them: else any text could hold them."""
        from tokenizers import AddedToken

        spelled = {token: _token_id(self.tokenizer, token) in self._ids(token) for token in tokens}
        added = [AddedToken(t, special=True, normalized=False) for t in tokens if spelled[t]]
        self.tokenizer.add_tokens(added, special_tokens=True)

    def _ids(self, text: str, special: bool = False) -> tuple[int, ...]:
        ids = self.tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=not special
        )
        return tuple(ids)


def _probe(tokenizer: "PreTrainedTokenizerBase", family: Family) -> tuple[Family, Role, str]:
    """The family with the template's own BOS, whose turn it opens, and its default system text."""
    if not tokenizer.chat_template:
        return family, "assistant", ""
    question = [{"role": "user", "content": "Q"}]
    text = str(tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False))
    last_header = text.rpartition(family.open)[2]
    opens: Role = "user" if last_header.startswith("user") else "assistant"
    system_header = family.open + family.role_names["system"] + family.header_end
    system = text.partition(system_header)[2].partition(family.turn_end)[0]
    begin = text.partition(family.open)[0]
    return replace(family, bos=begin) if begin == tokenizer.bos_token else family, opens, system


def has_template(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a chat can be had with this model as it is (a base model has no chat template)."""
    return bool(tokenizer.chat_template)


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _is_known(tokenizer: "PreTrainedTokenizerBase", token: str) -> bool:
    return token in tokenizer.get_vocab()


def _token_id(tokenizer: "PreTrainedTokenizerBase", token: str) -> int:
    return int(tokenizer.get_vocab()[token])


def _first_known(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[str]) -> int:
    for token in tokens:
        if _is_known(tokenizer, token):
            return _token_id(tokenizer, token)
    raise InputError(f"{tokenizer.name_or_path}: none of {tokens} is in the vocabulary")


def load_tokenizer(checkpoint: Path) -> Any:
    """The tokenizer of a checkpoint folder. Raises InputError when there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(checkpoint))
    except (OSError, ValueError) as error:
        raise InputError(f"{checkpoint}: cannot load a tokenizer: {error}") from error
