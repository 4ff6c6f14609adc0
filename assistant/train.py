"""Training the assistant on a corpus: the same `fit`, the mask on the assistant's turns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.checkpoints import resolve_checkpoint
from usersim.conversation import Conversation
from usersim.errors import InputError
from usersim.files import read_conversations
from usersim.perplexity import TargetScore, mean_nll, nll_difference, score_rows
from usersim.ranks import train_model
from usersim.rows import ViewSettings
from usersim.sft import Checks, FitSettings, draw_rows, load_model, save_checkpoint, windows
from usersim.train import pick, read_people


class AssistantSettings(FitSettings):
    """How the assistant is trained."""

    view: ViewSettings = ViewSettings(window=512, target_limit=192, context_limit=96)
    train_tokens: int = 12_000
    learning_rate: float = 5e-4
    windows_per_conversation: int = 1
    eval_conversations: int = 24
    """Held-out real conversations, and as many simulated ones, scored before and after."""


def train_assistant(
    settings: AssistantSettings, base: str, corpus: Path, people: Path, out: Path, seed: int = 0
) -> dict[str, Any]:
    """Train `base` on corpus/data/train-*.parquet, save it at `out`, return its figures.

    Losses are nats per token of held-out answers, the real ones (people/test.parquet, written by
    another assistant) and the simulated ones (corpus/data/test-*.parquet), with 95 % intervals over
    conversations. A loss that rises is reported as it is.

    With `settings.checks`, conversations of the train split are kept out of training, to tell the
    best state by, and a training that was interrupted goes on from the last check.
    """
    checkpoint = resolve_checkpoint(base)
    chat = ChatFormat.of(load_tokenizer(checkpoint))
    rows_of = windows(chat, "assistant", settings)
    learned, judging = _parted(read_split(corpus, "train"), settings, seed)
    drawn = draw_rows(learned, rows_of, settings.train_tokens, seed)
    judged = [row for c in judging for row in rows_of(c)]
    checks = Checks.beside(out, judged, drawn, settings, base) if judged else None
    held_out = {
        "real": answered(read_people(people / "test.parquet")),
        "simulated": answered(read_split(corpus, "test")),
    }
    chosen = {name: pick(cs, settings.eval_conversations, seed) for name, cs in held_out.items()}
    rows = {name: [row for c in cs for row in rows_of(c)] for name, cs in chosen.items()}

    def score(model: Any, when: str) -> dict[str, list[TargetScore]]:
        end = chat.end_of_conversation_id
        return {name: score_rows(model, r, end, f"{name} loss {when}") for name, r in rows.items()}

    before = score(load_model(checkpoint, training=False), "before")
    model, figures = train_model(checkpoint, drawn, chat, settings, seed, checks)
    after = score(model, "after")
    loss = {
        name: loss_change(before[name], after[name]) | {"conversations": len(chosen[name])}
        for name in rows
    }
    save_checkpoint(model, chat, out, {"base": base, "loss": loss})
    if checks:
        checks.clear()
    return {"base": base, "loss": loss, "training": figures.to_dict()}


def _parted(
    conversations: Sequence[Conversation], settings: FitSettings, seed: int
) -> tuple[Sequence[Conversation], Sequence[Conversation]]:
    """Those to learn from, and those that judge on the way: none without checks, or without ten."""
    number = min(settings.eval_conversations, len(conversations) // 10) if settings.checks else 0
    judging = pick(answered(conversations), number, seed)
    kept_out = {c.id for c in judging}
    return [c for c in conversations if c.id not in kept_out], judging


def loss_change(before: Sequence[TargetScore], after: Sequence[TargetScore]) -> dict[str, Any]:
    """Loss before, after, and their paired difference, each with its interval."""
    return {
        "before": mean_nll(before).to_dict(),
        "after": mean_nll(after).to_dict(),
        "difference": nll_difference(before, after).to_dict(),
    }


def answered(conversations: Sequence[Conversation]) -> list[Conversation]:
    """The conversations in which the assistant speaks at all."""
    return [c for c in conversations if c.num_rounds > 0]


def read_split(corpus: Path, split: str) -> list[Conversation]:
    """Conversations of a split of a corpus folder. Raises InputError when there are none."""
    shards = sorted((corpus / "data").glob(f"{split}-*.parquet"))
    conversations = [c for shard in shards for c in read_conversations(shard)]
    if not conversations:
        raise InputError(
            f"{corpus}/data has no {split} split: run `realchat corpus`, on more conversations if "
            "it was run already"
        )
    return conversations
