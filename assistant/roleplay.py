"""Training a model to play characters, and what each part of the header is worth to it.

Scripts are split by character, so that a loss on the test says what the header did for people whom
training has never met.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field

from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.checkpoints import resolve_checkpoint
from usersim.errors import InputError
from usersim.files import read_conversations, write_json
from usersim.perplexity import TargetScore, mean_nll, nll_difference, score_rows
from usersim.personas.scenes import read_scenes, settings_for
from usersim.personas.schema import Persona, read_personas
from usersim.personas.script import Script, read_scripts
from usersim.personas.script_rows import ScriptView, script_of, script_rows
from usersim.personas.splitting import Split, split_by_character
from usersim.ranks import train_model
from usersim.rows import Row, ViewSettings
from usersim.sft import FitSettings, draw_rows, load_model, save_checkpoint

SWITCHES = ("aspects", "scene", "emotion")
"""What an ablation leaves out, one at a time."""


class RoleplaySettings(FitSettings):
    """How a model learns to play characters. The defaults are for minutes on two cores."""

    script: ScriptView = Field(ScriptView(), description="what a row shows, and what is learned")
    train_tokens: int = Field(12_000, ge=1, description="tokens seen in all, headers included")
    learning_rate: float = Field(5e-4, gt=0, description="for LoRA")
    test_share: float = Field(0.2, gt=0, lt=1, description="characters that training never meets")
    eval_scripts: int = Field(24, ge=1, description="their scripts that are scored")


@dataclass(frozen=True, slots=True)
class Plays:
    """Who plays, and what was played."""

    people: dict[str, Persona]
    scripts: list[Script]


def read_plays(folder: Path) -> Plays:
    """What a role-play run or `realchat personas interact` left in a folder.

    Raises InputError when it is neither.
    """
    if (folder / "scripts.jsonl").exists():
        people = read_personas(folder / "personas.jsonl")
        return Plays({p.id: p for p in people}, read_scripts(folder / "scripts.jsonl"))
    if (folder / "conversations" / "cast").is_dir():
        return _read_run(folder)
    raise InputError(
        f"{folder} has neither scripts.jsonl nor a cast: it is no role-play run (see"
        " recipes/simschat.yaml) and no folder of `realchat personas interact`"
    )


def _read_run(run: Path) -> Plays:
    """The cast and the kept sessions of a role-play run."""
    cast = run / "conversations" / "cast"
    people = {p.id: p for p in read_personas(cast / "personas.jsonl")}
    path = cast / "scenes.jsonl"
    scenes = {s.id: s for s in read_scenes(path, settings_for(path))}
    kept = run / "curated" if (run / "curated").is_dir() else run / "conversations"
    sessions = [c for path in sorted(kept.glob("part-*.parquet")) for c in read_conversations(path)]
    return Plays(people, [script_of(c, people, scenes) for c in sessions])


def train_roleplay(
    settings: RoleplaySettings, base: str, plays: Plays, out: Path, seed: int = 0
) -> dict[str, Any]:
    """Train `base` on the scripts of known characters; save it at `out`, return its figures.

    Losses are nats per token of what unseen characters say, before and after, with 95 % intervals
    over scripts. Raises InputError where there is nothing to learn or to be tested on.
    """
    split = _split(settings, plays, seed)
    checkpoint = resolve_checkpoint(base)
    chat = ChatFormat.of(load_tokenizer(checkpoint))
    rows_of = _rows_of(settings.script, plays.people, chat)
    drawn = draw_rows(split.train, rows_of, settings.train_tokens, seed)
    held_out = [row for script in _picked(split.test, settings, seed) for row in rows_of(script)]
    end = chat.end_of_conversation_id
    before = score_rows(load_model(checkpoint, training=False), held_out, end, "unseen, before")
    model, figures = train_model(checkpoint, drawn, chat, _fitting(settings), seed)
    after = score_rows(model, held_out, end, "unseen, after")
    loss = {
        "before": mean_nll(before).to_dict(),
        "after": mean_nll(after).to_dict(),
        "difference": nll_difference(before, after).to_dict(),
    }
    about = {"base": base, "loss": loss, "split": split.figures()}
    save_checkpoint(model, chat, out, about)
    return about | {"training": figures.to_dict()}


def ablate(
    settings: RoleplaySettings, base: str, plays: Plays, out: Path, seed: int = 0
) -> dict[str, Any]:
    """What aspects, scene and emotion are each worth: trained and tested without them.

    Every variant learns from the same scripts in the same order and is tested on the same unseen
    characters. `difference` is variant - whole in nats per token, paired by script, with its 95 %
    interval: above 0 the part was of use. Writes `out/ablation.json` and returns it.
    """
    split = _split(settings, plays, seed)
    checkpoint = resolve_checkpoint(base)
    chat = ChatFormat.of(load_tokenizer(checkpoint))
    scripts = _drawn_scripts(settings, plays, split, chat, seed)
    test = _picked(split.test, settings, seed)
    scores: dict[str, list[TargetScore]] = {}
    figures: dict[str, Any] = {}
    for name, left_out in {"whole": (), **{f"no {s}": (s,) for s in SWITCHES}}.items():
        view = settings.script.model_copy(update={"leave_out": left_out})
        rows_of = _rows_of(view, plays.people, chat)
        drawn = [row for script in scripts for row in rows_of(script)]
        model, trained = train_model(checkpoint, drawn, chat, _fitting(settings), seed)
        held_out = [row for script in test for row in rows_of(script)]
        scores[name] = score_rows(model, held_out, chat.end_of_conversation_id, name)
        figures[name] = _worth(scores, name) | {"tokens": trained.tokens}
    result = {"base": base, "split": split.figures(), "tested": len(test), "variants": figures}
    write_json(out / "ablation.json", result)
    return result


def ablation_table(result: Mapping[str, Any]) -> str:
    """The result of `ablate` as a Markdown table."""
    lines = ["| header | nats per token | against the whole |", "|---|---|---|"]
    for name, row in result["variants"].items():
        loss, change = row["loss"], row["difference"]
        told = f"{change['mean']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})"
        lines.append(f"| {name} | {loss['mean']:.3f} | {'' if name == 'whole' else told} |")
    return "\n".join(lines)


def _worth(scores: Mapping[str, list[TargetScore]], name: str) -> dict[str, Any]:
    return {
        "loss": mean_nll(scores[name]).to_dict(),
        "difference": nll_difference(scores["whole"], scores[name]).to_dict(),
    }


def _split(settings: RoleplaySettings, plays: Plays, seed: int) -> Split:
    people = list(plays.people.values())
    split = split_by_character(people, plays.scripts, settings.test_share, seed)
    if not split.train or not split.test:
        raise InputError(
            f"{len(plays.scripts)} scripts of {len(people)} characters leave {len(split.train)} to"
            f" learn from and {len(split.test)} to be tested on: play more scenes, by more people"
        )
    return split


def _rows_of(
    view: ScriptView, people: Mapping[str, Persona], chat: ChatFormat
) -> Callable[[Script], list[Row]]:
    return lambda script: script_rows(script, people[script.scene.persona_id], chat, view)


def _drawn_scripts(
    settings: RoleplaySettings, plays: Plays, split: Split, chat: ChatFormat, seed: int
) -> list[Script]:
    """As many scripts as hold the tokens with the whole header, in the order of training."""
    rows_of = _rows_of(settings.script, plays.people, chat)
    by_id = {script.id: script for script in split.train}
    drawn = draw_rows(split.train, rows_of, settings.train_tokens, seed)
    return [by_id[i] for i in dict.fromkeys(row.conversation_id for row in drawn)]


def _picked(scripts: Sequence[Script], settings: RoleplaySettings, seed: int) -> list[Script]:
    order = sorted(scripts, key=lambda s: s.id)
    Random(f"{seed}:test").shuffle(order)
    return order[: settings.eval_scripts]


def _fitting(settings: RoleplaySettings) -> FitSettings:
    """The same settings for `fit`, whose rows are as long as those of scripts."""
    view = ViewSettings(window=settings.script.window)
    return settings.model_copy(update={"view": view})
