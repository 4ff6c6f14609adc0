"""Likelihood: how well a user model foretells what real people typed, beside a prompted baseline.

Every model is shown the same view of each conversation: the assistant's turns cut to head and tail,
windows of bounded length (`rows.ViewSettings`). Perplexities are comparable within one view and one
tokenizer only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from usersim.chat_format import FREE_SYSTEM, ChatFormat, load_tokenizer
from usersim.checkpoints import stamp
from usersim.conversation import Conversation
from usersim.fidelity.designs import Design, sums_of
from usersim.fidelity.intervals import estimate, ratios, rounded
from usersim.fidelity.persons import BY_TURN, PARTS, Person, conversations_of
from usersim.files import fingerprint, read_json, write_json
from usersim.perplexity import TargetScore, score_rows
from usersim.rows import Row, ViewSettings, conversation_rows
from usersim.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Told = Callable[[Conversation], str]
"""What a model is told of a person: the system message; "" leaves the model's own."""

PROMPTS = (
    FREE_SYSTEM,
    "You are a person who is using ChatGPT. Write only the next message that you, the person, type "
    "to it: short, casual, in your own words. Never answer, never help, never explain.",
    "Act as the human user in this conversation. Say what the user would say next: a question, a "
    "request or a reaction, as people type them. You are not the assistant.",
    "A user talks with an AI assistant. Users write briefly, often in lower case, without polite "
    "phrases, and sometimes with typing errors. Write the user's next message.",
)
"""Instructions for the baseline: the one with the lowest perplexity on dev people is taken."""

DEFINITIONS = {
    "all": "perplexity per token over real people's turns, their end tokens included; low, high: "
    "95 % bootstrap interval over persons",
    "first, later, by_turn": "the same over first turns, later ones, and by number of the turn",
    "prompted": "the user model's base, untrained, told the best of "
    f"{len(PROMPTS)} instructions, chosen on dev people",
    "change": "user model / prompted - 1, over the same turns; interval over persons, paired",
    "floor": "real against real: by how much the user model's perplexity differs between two "
    "halves of the people, relative; mean over splits, and the largest (high)",
}


class Context(Settings):
    """How much of each conversation is scored, and how much of it the model sees."""

    view: ViewSettings = Field(ViewSettings(), description="as in training")
    windows: int = Field(
        6,
        ge=1,
        description="windows scored of each conversation, from its beginning: one person in a "
        "hundred talks for a hundred of them, and would be most of what is measured",
    )


def scored(
    checkpoint: Path,
    conversations: Sequence[Conversation],
    told: Mapping[str, Told],
    context: Context,
    keep: Path | None = None,
) -> dict[str, list[TargetScore]]:
    """What the model at `checkpoint` makes of user turns, for each way to tell it of their persons.

    Scores are kept in the folder `keep` and read from there when the same is asked again. Raises
    InputError when it is no chat model of a known family.
    """
    from usersim.sft import load_model

    chat = playing_user(checkpoint)
    model, found = None, {}
    for name, tell in told.items():
        rows = [r for c in conversations for r in _rows(c, chat, context, tell(c))]
        path = keep / f"scores-{_key(checkpoint, rows)}.json" if keep else None
        if path and path.is_file():
            found[name] = [TargetScore(*values) for values in read_json(path)]
            continue
        model = model or load_model(checkpoint, training=False)
        found[name] = score_rows(model, rows, chat.end_of_conversation_id, f"score, {name[:28]}")
        if path:
            write_json(path, [astuple(score) for score in found[name]])
    del model
    _give_memory_back()
    return found


def _give_memory_back() -> None:
    """A GPU's too: engines that are started next ask how much of it is free."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _key(checkpoint: Path, rows: Sequence[Row]) -> str:
    """What the scores of these rows by these weights depend on."""
    asked = [[row.conversation_id, row.input_ids, *map(astuple, row.targets)] for row in rows]
    return fingerprint([stamp(checkpoint), asked])


def _rows(conversation: Conversation, chat: ChatFormat, context: Context, told: str) -> list[Row]:
    """Windows that show as much of the conversation, however much the model is told before it."""
    more = len(chat.text_ids(told)) - len(chat.text_ids(chat.default_system)) if told else 0
    wider = context.view.model_copy(update={"window": context.view.window + more})
    return conversation_rows(conversation, chat, "user", wider, told)[: context.windows]


def playing_user(checkpoint: Path) -> ChatFormat:
    """The checkpoint's format, for the user's part."""
    chat = ChatFormat.of(load_tokenizer(checkpoint))
    return chat if chat.opens == "user" else chat.playing("user", FREE_SYSTEM)


def mean_nll(scores: Sequence[TargetScore]) -> float:
    """Nats per token over turns; decisions to leave are left out."""
    turns = [s for s in scores if not s.is_end]
    return sum(s.nll for s in turns) / max(1, sum(s.tokens for s in turns))


def perplexity_figures(
    real: Sequence[Person], scores: Mapping[str, Sequence[TargetScore]]
) -> dict[str, Any]:
    """Perplexities of each model on the turns of `real`; JSON-able.

    `scores` must hold `user_model`; `prompted` and others (`with_profile`, ...) may be there. Each
    gets `all`, `low`, `high`, `first`, `later`, `by_turn`; those beside the user model `change`,
    what the user model's (or theirs, for `with_*`, against `prompted`) is relative to it. Also
    `floor`, `turns`, `tokens`, `definitions`.
    """
    import numpy as np

    design = Design.of(real, real)
    sums = {name: _sums(real, s) for name, s in scores.items()}
    table: dict[str, Any] = {name: _table(one, design) for name, one in sums.items()}
    if "prompted" in sums:
        for name, one in sums.items():
            if name != "prompted":
                table[name]["change"] = _changes(one, sums["prompted"], design)
    ours = sums["user_model"]["all"]
    halves = [np.exp(_nll(ours, side)) for side in (design.left, design.right)]
    apart = np.abs(halves[0] / halves[1] - 1)
    return table | {
        "floor": {"value": rounded(float(apart.mean())), "high": rounded(float(apart.max()))},
        "turns": sum(not s.is_end for s in scores["user_model"]),
        "tokens": sum(s.tokens for s in scores["user_model"] if not s.is_end),
        "definitions": DEFINITIONS,
    }


GROUPS: dict[str, Callable[[int], bool]] = {"all": lambda _: True, **PARTS}


def _sums(real: Sequence[Person], scores: Sequence[TargetScore]) -> dict[str, "Floats"]:
    """By group of turns: (nats, tokens) of each person."""
    import numpy as np

    person_of = {c.id: n for n, p in enumerate(real) for c in conversations_of([p])}
    turns = [s for s in scores if not s.is_end]
    person = np.array([person_of[s.conversation_id] for s in turns], dtype=np.int64)
    values = np.array([[s.nll, s.tokens] for s in turns], dtype=float).reshape(-1, 2)
    number = [s.turn // 2 for s in turns]
    found = {}
    for name, test in (GROUPS | BY_TURN).items():
        inside = np.array([test(n) for n in number], dtype=bool)
        found[name] = sums_of(len(real), person[inside], values[inside])
    return found


def _nll(sums: "Floats", weights: "Floats") -> "Floats":
    return ratios(weights, sums[:, :1], sums[:, 1:])[:, 0]


def _table(sums: Mapping[str, "Floats"], design: Design) -> dict[str, Any]:
    whole = _figure(sums["all"], design)
    return {
        "all": whole["value"],
        "low": whole["low"],
        "high": whole["high"],
        "first": _figure(sums["first"], design),
        "later": _figure(sums["later"], design),
        "by_turn": {name: _figure(sums[name], design) for name in BY_TURN},
    }


def _figure(sums: "Floats", design: Design) -> dict[str, float | None]:
    import numpy as np

    ones = np.ones((1, len(sums)))
    value = float(np.exp(_nll(sums, ones)[0]))
    return estimate(value, np.exp(_nll(sums, design.real_draws)))


def _changes(
    ours: Mapping[str, "Floats"], theirs: Mapping[str, "Floats"], design: Design
) -> dict[str, dict[str, float | None]]:
    """Relative change of perplexity over all, first and later turns, persons paired."""
    import numpy as np

    table = {}
    for group in GROUPS:
        ones = np.ones((1, len(ours[group])))
        change = [
            np.exp(_nll(ours[group], weights) - _nll(theirs[group], weights)) - 1
            for weights in (ones, design.real_draws)
        ]
        table[group] = estimate(float(change[0][0]), change[1])
    return table
