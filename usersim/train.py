"""Training UserGPT: an ordinary checkpoint whose chat template opens a user turn."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from usersim.chat_format import FREE_SYSTEM, ChatFormat, load_tokenizer
from usersim.checkpoints import resolve_checkpoint
from usersim.conditions import ConditionSettings, Teller
from usersim.conversation import Conversation
from usersim.engines import EngineSpec
from usersim.errors import InputError
from usersim.files import fingerprint, read_conversations
from usersim.intents import keep_told, read_intents, write_intents
from usersim.leaving import calibrating_bias, end_table, leaving_rates
from usersim.perplexity import (
    TargetScore,
    nll_difference,
    perplexity,
    perplexity_table,
    score_rows,
)
from usersim.ranks import train_model
from usersim.rows import Row
from usersim.sft import Checks, FitSettings, draw_rows, load_model, save_checkpoint, windows

log = logging.getLogger(__name__)

RowsOf = Callable[[Conversation], list[Row]]


class TrainSettings(FitSettings):
    """How UserGPT is trained."""

    conditions: ConditionSettings = ConditionSettings()
    intents: str = ""
    """JSONL of `{"id": ..., "intent": ...}`: what people wanted, by conversation id, from who can
    tell better than the words of their turns."""
    intent_writer: EngineSpec | None = None
    """A strong model that writes intents; kept in people/intents.jsonl, or in `intents`."""
    dev_conversations: int = 30
    """Held-out people (of the dev split) on whom the decision to leave is calibrated."""


def train_user(
    settings: TrainSettings, base: str, people: Path, out: Path, seed: int = 0
) -> dict[str, Any]:
    """Train UserGPT from `base` on people/train.parquet, save it at `out`, return its figures.

    Perplexity is over user turns of people/test.parquet, whom training has not seen; "before" is
    the same weights, shown the same template and the same view of the conversation.
    """
    checkpoint = resolve_checkpoint(base)
    chat = ChatFormat.of(load_tokenizer(checkpoint)).playing("user", FREE_SYSTEM)
    rows_of = windows(chat, "user", settings)
    train = read_people(people / "train.parquet")
    dev = pick(_dev_people(people, train), settings.dev_conversations, seed)
    held_out = pick(read_people(people / "test.parquet"), settings.eval_conversations, seed)
    test = [row for c in held_out for row in rows_of(c)]
    drawn_from = partial(_drawn, train, rows_of, settings.train_tokens, seed)
    written = _intents(settings, lambda: [*drawn_from(), *held_out], people)
    teller = Teller(settings.conditions, train, seed, written)
    drawn = draw_rows(
        train, windows(chat, "user", settings, teller.at_random), settings.train_tokens, seed
    )

    def score(model: Any, rows: list[Row], title: str) -> list[TargetScore]:
        return score_rows(model, rows, chat.end_of_conversation_id, title)

    # Made before the training: what cannot be told must not lose it.
    when_told = _when_told(settings, chat, teller, held_out)
    before = score(load_model(checkpoint, training=False), test, "perplexity before")
    checks = Checks.beside(out, [row for c in dev for row in rows_of(c)], drawn, settings, base)
    model, figures = train_model(
        checkpoint, drawn, chat, settings, seed, checks if settings.checks else None
    )
    after = score(model, test, "perplexity after")

    told = {
        name: perplexity(score(model, rows, f"perplexity, told {name}"), lambda _: True)
        for name, rows in when_told.items()
    }
    decisions = score(model, [r for c in dev for r in rows_of(c)], "calibrate the end")
    rates = leaving_rates(train)
    bias = calibrating_bias(decisions, rates)
    report = {
        "base": base,
        "perplexity": perplexity_change(before, after)
        | {"conversations": len(held_out), "told": told},
        "end": {
            "bias": bias,
            "people": {str(rounds): round(rate, 4) for rounds, rate in rates.items()},
            "raw": end_table(after),
            "calibrated": end_table(after, bias),
        },
        "training": figures.to_dict(),
    }
    about = {"base": base, "end_bias": bias, "perplexity": report["perplexity"]}
    save_checkpoint(model, chat, out, about)
    checks.clear()
    return report


def _when_told(
    settings: TrainSettings, chat: ChatFormat, teller: Teller, people: Sequence[Conversation]
) -> dict[str, list[Row]]:
    """Rows that tell of each of these people what training tells of some, by what is told."""

    def rows(intent: bool, profile: bool) -> list[Row]:
        told = windows(chat, "user", settings, lambda c: teller.told(c, intent, profile))
        return [row for c in people for row in told(c)]

    found = {}
    if settings.conditions.profile_share:
        found["profile"] = rows(False, True)
    if settings.conditions.intent_share:
        found["intent"] = rows(True, False)
    if len(found) == 2:
        found["both"] = rows(True, True)
    return found


def _drawn(
    train: Sequence[Conversation], rows_of: RowsOf, train_tokens: int, seed: int
) -> list[Conversation]:
    """Those of whom training draws rows; told something, it comes to a few less."""
    drawn = {row.conversation_id for row in draw_rows(train, rows_of, train_tokens, seed)}
    return [c for c in train if c.id in drawn]


def _intents(
    settings: TrainSettings, whom: Callable[[], Sequence[Conversation]], people: Path
) -> dict[str, str]:
    """Intents that somebody wrote: those in a file, and a strong model's, where there is one.

    `whom` a model is to write of is asked only then: to know it, all rows are made once more.
    """
    if settings.intent_writer and settings.conditions.intent_share:
        path = Path(settings.intents) if settings.intents else people / "intents.jsonl"
        written = write_intents(settings.intent_writer, whom(), path)
    else:
        written = read_intents(settings.intents)
    keep_told(people, written)
    return written


def _dev_people(people: Path, train: Sequence[Conversation]) -> Sequence[Conversation]:
    """The dev split; a source too small to have one lends its training people."""
    dev = people / "dev.parquet"
    found = read_conversations(dev) if dev.is_file() else []
    if not found:
        log.warning(
            "%s holds nobody: when to leave and which state is best go by people who are learned"
            " from. Ingest more of them, or hold some out (ingest.dev)",
            dev,
        )
    return found or train


def perplexity_change(
    before: Sequence[TargetScore], after: Sequence[TargetScore]
) -> dict[str, Any]:
    """Perplexity of two scorings of the same turns: overall, by turn, and the paired change."""
    first, second = perplexity_table(before), perplexity_table(after)
    return {
        "before": first["all"],
        "after": second["all"],
        "change": round(second["all"] / first["all"] - 1, 4),
        "nll_difference": nll_difference(before, after).to_dict(),
        "detail": {"before": first, "after": second},
    }


def read_people(path: Path) -> list[Conversation]:
    """Conversations of a split. Raises InputError when it is missing or empty."""
    if not path.is_file():
        raise InputError(f"{path} is missing: run `realchat ingest` first")
    conversations = read_conversations(path)
    if not conversations:
        raise InputError(f"{path} holds no conversation: ingest more data")
    return conversations


def pick(conversations: Sequence[Conversation], number: int, seed: int) -> list[Conversation]:
    """`number` conversations, the same ones whatever the order of the input."""
    ordered = sorted(conversations, key=lambda c: fingerprint([seed, c.id]))
    return ordered[:number]
