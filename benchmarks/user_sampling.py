"""How UserGPT's turns should be drawn: surface statistics by sampling, on **dev** people.

    .venv/bin/python benchmarks/user_sampling.py runs/demo '{top_p: 0.9}' '{top_p: 1.0}'

Each variant is a YAML table of `simulate.user_sampling`. For every one, UserGPT opens conversations
from nothing, and continues those of dev people where they did, after the answers they had (clipped
as in training). Turns that the limit cut off are left out, as the simulation refuses them. What is
printed, a JSON line a variant, is each statistic of people's own turns and the relative error.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.conditions import profile_of, user_system
from usersim.conversation import Conversation, Message
from usersim.engine import Completion, Engine
from usersim.engines import EngineSpec, open_engine
from usersim.plan import FORBID_END, SamplingSettings
from usersim.rows import ViewSettings, head_and_tail
from usersim.surface import turn_statistics
from usersim.train import pick, read_people

VIEW = ViewSettings()
LATER_ROUNDS = 3
"""Later turns of one person that are read; a few talk for a hundred rounds."""


def contexts(conversation: Conversation, chat: ChatFormat) -> Iterator[tuple[list[Message], str]]:
    """What a person had before them when they typed each later turn, and that turn."""
    turns = conversation.turns
    for position in range(2, min(len(turns), 2 * LATER_ROUNDS + 1), 2):
        yield [clipped(m, chat) for m in turns[:position]], turns[position].content


def clipped(message: Message, chat: ChatFormat) -> Message:
    """The message as training shows it."""
    whole = list(chat.text_ids(message.content))
    user = message.role == "user"
    ids = whole[: VIEW.target_limit] if user else head_and_tail(whole, VIEW.context_limit)
    return Message(message.role, chat.tokenizer.decode(ids) or " ")


def main() -> None:
    """Sample every variant from one engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path, help="a run folder with people/ and models/user")
    parser.add_argument("variants", nargs="+", help="YAML tables of simulate.user_sampling")
    parser.add_argument("--model", type=Path, help="another UserGPT than the run's")
    parser.add_argument("--told", action="store_true", help="tell UserGPT a real person's profile")
    parser.add_argument("--turns", type=int, default=300, help="openers, and later turns")
    options = parser.parse_args()
    model = options.model or options.run / "models" / "user"
    people = read_people(options.run / "people" / "dev.parquet")
    chat = ChatFormat.of(load_tokenizer(model))
    later = [
        ([told(c), *before] if options.told else before, turn)
        for c in people
        for before, turn in contexts(c, chat)
    ][: options.turns]
    train = pick(read_people(options.run / "people" / "train.parquet"), options.turns, 0)
    first = [[told(c)] if options.told else [] for c in train]
    real = {
        "first": turn_statistics([c.opener for c in people], options.turns),
        "later": turn_statistics([turn for _, turn in later], options.turns),
    }
    print(json.dumps({"real": real}), flush=True)
    engine = open_engine(
        EngineSpec(model=str(model), max_num_seqs=64, log_dir=options.run / "logs")
    )
    where = {"first": first, "later": [context for context, _ in later]}
    asyncio.run(sample_all(engine, options, where, real))


def told(conversation: Conversation) -> Message:
    """What UserGPT is told when it plays this person."""
    return Message("system", user_system(profile=profile_of(conversation.user_turns).line()))


async def sample_all(
    engine: Engine,
    options: argparse.Namespace,
    where: dict[str, list[list[Message]]],
    real: dict[str, Any],
) -> None:
    """One JSON line a variant."""
    try:
        for text in options.variants:
            sampling = SamplingSettings.model_validate(yaml.safe_load(text) or {})
            drawn = {when: await draw(engine, where[when], sampling) for when in where}
            print(json.dumps({"variant": text} | described(drawn, real)), flush=True)
    finally:
        await engine.close()  # type: ignore[attr-defined]


async def draw(
    engine: Engine, contexts: Sequence[list[Message]], sampling: SamplingSettings
) -> list[Completion]:
    """A turn in each context; nobody may leave."""
    return await asyncio.gather(
        *(
            engine.complete(context, sampling.drawn(number, FORBID_END))
            for number, context in enumerate(contexts)
        )
    )


def described(drawn: dict[str, list[Completion]], real: dict[str, Any]) -> dict[str, Any]:
    """Statistics of whole turns with their relative errors, and the share that was cut off."""
    result: dict[str, Any] = {}
    for when, completions in drawn.items():
        whole = [c.text for c in completions if c.finish_reason == "stop" and c.text.strip()]
        found = turn_statistics(whole, len(completions))
        result[when] = {
            "cut_off": round(1 - len(whole) / len(completions), 3),
            "tokens": sum(c.completion_tokens for c in completions),
            **{key: compared(found[key], real[when][key]) for key in found if key != "turns"},
        }
    return result


def compared(value: float | None, people: float | None) -> str:
    """`value against people's (relative error)`."""
    if value is None or people is None:
        return "none"
    error = f"{value / people - 1:+.0%}" if people else "none"
    return f"{value:.3g} / {people:.3g} ({error})"


if __name__ == "__main__":
    main()
