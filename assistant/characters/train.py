"""Experience upload: a model learns to be a person, by the same `fit` that trains everything else.

What it learns from is made here: experiences that cover the whole story, and a share of protective
ones. The result is a checkpoint whose own chat template says who it is, with the adapter that was
merged into it beside it: an engine on a CPU serves merged weights at full speed, and elsewhere one
base carries the adapters of many characters.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assistant.characters.experiences import Experience, complete, header, to_conversation
from assistant.characters.profile import Profile
from assistant.characters.protective import place_and_status, protective_experiences
from assistant.characters.scenes import extract_scenes
from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.checkpoints import resolve_checkpoint
from usersim.conversation import Conversation
from usersim.errors import InputError
from usersim.files import fingerprint
from usersim.ranks import train_model
from usersim.rows import Row, ViewSettings, conversation_rows
from usersim.settings import Settings
from usersim.sft import FitSettings, draw_rows, save_checkpoint

Scripted = tuple[list[Experience], dict[str, Any]]


class ExperienceSettings(Settings):
    """What a character learns from."""

    scenes: int = Field(160, ge=1, description="scenes, over all paragraphs by their length")
    protective_share: float = Field(
        0.2, ge=0.0, lt=1.0, description="of all experiences; 0 makes none"
    )
    thoughts: float = Field(
        0.0, ge=0.0, le=1.0, description="share of scenes in which the character thinks first"
    )
    plain_share: float = Field(
        0.8, ge=0.0, le=1.0,
        description="scenes told on the plain occasion that protective ones and interviews have",
    )  # fmt: skip
    writer: Literal["template", "engine"] = Field(
        "template", description="who plays the scenes: the paragraph's own sentences, or a model"
    )
    file: str = Field(
        "", description="experiences of your own instead, as `realchat characters import` writes"
    )


class CharacterSettings(FitSettings):
    """How a character is trained."""

    view: ViewSettings = ViewSettings(window=640, target_limit=160, context_limit=160)
    train_tokens: int = 40_000
    learning_rate: float = 2e-3
    """For LoRA: one life is learned in few steps, again and again (docs/log.md)."""
    windows_per_conversation: int = 0
    eval_conversations: int = 0
    loss: Literal["character", "all", "speech"] = "character"
    """What is learned: the character's own turns, everybody's, or the character's without their
    thoughts, which are then in no row."""
    plain_rounds: int = 6
    """Rounds on the plain occasion that are told in one go, as in an interview; 1: each
    experience by itself, with a header of its own to read."""


def make_experiences(profile: Profile, settings: ExperienceSettings, seed: int) -> Scripted:
    """The template's experiences and the protective ones, and what there is of each kind."""
    scenes, figures = extract_scenes(profile, settings.scenes, seed)
    if settings.file:
        lived = read_experiences(Path(settings.file), profile.name)
    else:
        lived = [complete(s, profile, seed, settings.thoughts) for s in scenes]
    return with_protection(profile, lived, settings, seed, {"scenes": figures})


def read_experiences(path: Path, name: str) -> list[Experience]:
    """A person's experiences in a file, one JSON object a line. Raises InputError without any."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        found = [Experience.from_row(json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"cannot read experiences from {path}: {error}") from error
    if not (own := [e for e in found if e.character.casefold() == name.casefold()]):
        others = ", ".join(sorted({e.character for e in found})[:4]) or "nobody"
        raise InputError(f"{path} holds experiences of {others}, and none of {name}")
    return own


def with_protection(
    profile: Profile,
    lived: Sequence[Experience],
    settings: ExperienceSettings,
    seed: int,
    figures: dict[str, Any],
) -> Scripted:
    """Experiences of a life, some on a plain occasion, with their share of protective ones."""
    place, status = place_and_status(profile)
    plain = {e.id for e in lived if int(e.id[:8], 16) / 16**8 < settings.plain_share}
    told = [replace(e, place=place, status=status) if e.id in plain else e for e in lived]
    share = settings.protective_share
    guarded = protective_experiences(profile, round(len(lived) * share / (1 - share)), seed)
    made = [*told, *guarded]
    kinds = dict(Counter(e.kind for e in made))
    counts = {"experiences": len(made), "kinds": kinds, "protective": len(guarded)}
    return made, figures | counts | {"protective_share": round(len(guarded) / len(made), 4)}


def conversations_of(
    experiences: Sequence[Experience], profile: Profile, settings: CharacterSettings, seed: int
) -> list[Conversation]:
    """What is learned from: each experience by itself, but those of the plain occasion in a row.

    A visitor asks of this and that: experiences follow one another at random, ordinary ones and
    provocations, until a conversation has `settings.plain_rounds` rounds. The header is read once
    for all of them, so that more of the tokens are learned.
    """
    thoughts, rounds = settings.loss != "speech", settings.plain_rounds
    told = [to_conversation(e, profile.about.trade, thoughts) for e in experiences]
    header, whole = own_header(profile), []
    plain = sorted((t for t in told if t.system == header), key=lambda t: t.id)
    random.Random(f"{seed} {profile.name}").shuffle(plain)
    while plain:
        talk = plain.pop()
        while plain and len(talk.assistant_turns) < rounds:
            talk = _followed_by(talk, plain.pop())
        whole.append(talk)
    return [*(t for t in told if t.system != header), *whole]


def _followed_by(first: Conversation, second: Conversation) -> Conversation:
    return replace(
        first,
        id=fingerprint([first.id, second.id]),
        messages=(*first.messages, *second.turns),
        source="experience:plain",
        intent_id=None,  # of no single paragraph; the experiences keep what each utterance is of
    )


def own_header(profile: Profile) -> str:
    """What the character is told on the plain occasion: the default of its chat template."""
    return header(profile.name, *place_and_status(profile), profile.about.trade)


def rows_of(chat: ChatFormat, settings: CharacterSettings) -> Callable[[Conversation], list[Row]]:
    """What makes a conversation's rows: targets are the character's turns, or everybody's.

    Where everybody's are, each conversation is seen twice, once from either side.
    """

    def rows(conversation: Conversation) -> list[Row]:
        made = conversation_rows(conversation, chat, "assistant", settings.view)
        if settings.loss == "all":
            made += conversation_rows(conversation, chat, "user", settings.view)
        return made

    return rows


def train_character(
    settings: CharacterSettings,
    base: str,
    profile: Profile,
    experiences: Sequence[Experience],
    out: Path,
    seed: int = 0,
) -> dict[str, Any]:
    """Train `base` to be the person, save it at `out`, return its figures.

    Raises InputError where there is nothing to learn from.
    """
    if not experiences:
        raise InputError(f"{profile.name} has no experiences to learn from")
    checkpoint = resolve_checkpoint(base)
    chat = ChatFormat.of(load_tokenizer(checkpoint)).playing("assistant", own_header(profile))
    told = conversations_of(experiences, profile, settings, seed)
    drawn = draw_rows(told, rows_of(chat, settings), settings.train_tokens, seed)
    model, figures = train_model(checkpoint, drawn, chat, settings, seed)
    about = {"base": base, "character": profile.name, "experiences": len(experiences)}
    # Who asks the adapter over a plain base sends this; the merged model's template has it.
    save_checkpoint(model, chat, out, about | {"system": own_header(profile)})
    return about | {"training": figures.to_dict()}
