"""`realchat characters show|train|chat|serve|import`: one person, without a run folder."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from usersim.errors import InputError, WorldError

Guard = Callable[[Callable[..., None]], Callable[..., None]]

EXAMPLES = """\b
Examples:
  realchat characters show mirela-dascal                  paragraphs, and scenes made of them
  realchat characters train my-life.md --out models/me    learn to be that person
  realchat characters train my-life.md --out models/me training.train_tokens=80000
  realchat characters chat models/me                      talk to them
  realchat characters serve models/me models/mirela       one base, many characters, one server
  realchat characters import downloads/ --out mine.jsonl  Character-LLM's files

A character in a run, with interviews: realchat run --recipe characters-demo
"""

HERE = ("experiences", "training")
"""Tables of a recipe's `character` that `train` follows without a run."""

verbs = typer.Typer(
    help="Train a model to be a person from the story of a life; talk to it, serve it.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
)

Life = Annotated[
    str,
    typer.Argument(
        help="A markdown or wiki file, a file of personas (people.jsonl#3 for the third), or a"
        " story that comes with realchat."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def add_to(app: typer.Typer, guarded: Guard) -> None:
    """Give the command its `characters` verbs."""
    for verb in (show, train, chat, serve):
        verbs.command(verb.__name__)(guarded(verb))
    verbs.command("import")(guarded(import_layout))
    app.add_typer(verbs, name="characters")


def show(
    life: Life,
    scenes: Annotated[int, typer.Option(help="Scenes to make of it.")] = 100,
    examples: Annotated[int, typer.Option(help="Experiences to print.")] = 3,
    debug: Debug = False,
) -> None:
    """A story's paragraphs, how scenes cover them, and a few experiences. No model is needed."""
    from assistant.characters.experiences import complete
    from assistant.characters.profile import find_profile
    from assistant.characters.protective import protective_experiences
    from assistant.characters.scenes import extract_scenes

    profile = find_profile(life)
    made, figures = extract_scenes(profile, scenes)
    for paragraph in profile.paragraphs:
        number = figures["by_paragraph"][paragraph.id]
        typer.echo(
            f"{paragraph.id}  {number:3} scenes  {paragraph.words:3} words  {paragraph.text[:60]}"
        )
    step = max(1, len(made) // max(1, examples))
    told = [complete(scene, profile) for scene in made[::step][:examples]]
    for experience in [*told, *protective_experiences(profile, min(4, examples))]:
        typer.echo(f"\n[{experience.kind} {experience.paragraph}] {experience.status}")
        for said in experience.utterances:
            typer.echo(f"  {said.speaker} ({said.action}): {said.text}")


def train(
    life: Life,
    out: Annotated[Path, typer.Option(help="Folder for the model; its adapter goes beside it.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="As experiences.scenes=300, training.lora_rank=8"),
    ] = None,
    base: Annotated[str, typer.Option(help="Model to train.")] = "smollm2-135m-instruct",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 7,
    debug: Debug = False,
) -> None:
    """Learn to be a person: experiences of the whole story, protective ones among them."""
    from assistant.characters.profile import find_profile
    from assistant.characters.train import make_experiences, train_character
    from pipelines.stage_process import quieten

    table = _table(overrides or ())
    profile = find_profile(life)
    quieten()
    made, counts = make_experiences(profile, table.experiences, seed)
    typer.echo(f"{profile.name}: {counts['kinds']} experiences", err=True)
    train_character(table.training, base, profile, made, out, seed)
    typer.echo(out)


def chat(
    model: Annotated[Path, typer.Argument(help="A folder that `train` made.")], debug: Debug = False
) -> None:
    """Talk to a character in the terminal."""
    from assistant.chat import chat as talk
    from pipelines.stage_process import quieten

    quieten()
    talk(_trained(model))


def serve(
    models: Annotated[list[Path], typer.Argument(help="Folders that `train` made, of one base.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the server.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    merged: Annotated[
        bool | None,
        typer.Option(
            "--merged/--adapters",
            help="One character's merged weights, or one base with an adapter for each."
            " [default: merged for one character, on a CPU at full speed; else adapters]",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command only.")] = False,
    debug: Debug = False,
) -> None:
    """Serve characters by vLLM's own server: each is a model name of an OpenAI-compatible API."""
    from pipelines.character_server import ON_A_CPU, is_cpu_build, server_command

    command = server_command([_trained(m) for m in models], host, port, merged)
    if dry_run:
        typer.echo(shlex.join(command))
        return
    own = Path(sys.executable).parent / command[0]  # of this environment, active or not
    program = str(own) if own.is_file() else shutil.which(command[0])
    if program is None:
        raise WorldError("vLLM's command is not installed: run `make setup`")
    environment = {**(ON_A_CPU if is_cpu_build() else {}), **os.environ}
    os.execve(program, command, environment)  # noqa: S606 - a program of ours, checked arguments


def import_layout(
    path: Annotated[Path, typer.Argument(help="A file or folder of Character-LLM's data.")],
    out: Annotated[Path, typer.Option(help="File for the experiences, one JSON object a line.")],
    debug: Debug = False,
) -> None:
    """Read Character-LLM's own files: what is whole becomes experiences, the rest is listed.

    Questions, scenes and interviews that are among it go to files of their own beside `out`.
    """
    import json

    from assistant.characters.layouts import read_layout
    from usersim.files import write_rejections, write_text

    found = read_layout(path)
    kinds: dict[str, list[dict[str, Any]]] = {
        "": [e.to_row() for e in found.experiences],
        ".questions": [dict(q) for q in found.questions],
        ".scenes": [dict(s) for s in found.scenes],
        ".interviews": [i.to_row() for i in found.interviews],
    }
    for kind, rows in kinds.items():
        if rows or not kind:
            lines = (json.dumps(row, ensure_ascii=False) for row in rows)
            path = out.with_suffix(f"{kind}.jsonl") if kind else out
            write_text(path, "".join(f"{line}\n" for line in lines))
    typer.echo(f"rows read: {dict(found.counts)}", err=True)
    if found.rejected:
        listed = out.with_suffix(".rejected.parquet")
        write_rejections(listed, found.rejected)
        typer.echo(f"left out: {found.reasons}, listed in {listed}", err=True)
    typer.echo(out)


def _trained(folder: Path) -> Path:
    from usersim.checkpoints import about_checkpoint

    if not about_checkpoint(folder).get("character"):
        raise InputError(f"{folder} is no character: `realchat characters train` makes one")
    return folder


def _table(overrides: Sequence[str]) -> Any:
    """The settings of experiences and training. Raises InputError for what only a run follows."""
    from pipelines.recipe import Recipe, overridden

    wanted = [f"character.{line}" for line in overrides]
    table = Recipe.checked(overridden({}, wanted), "on the command line").character
    others = [line for line in overrides if line.split(".")[0].split("=")[0] not in HERE]
    if table.experiences.writer != "template":
        others.append(f"experiences.writer={table.experiences.writer}")
    if others:
        run = " ".join(f"character.{line}" for line in others)
        raise InputError(
            f"{', '.join(others)}: a run does that, with what is set aside and a report: realchat"
            f" run --recipe characters-demo character.life=LIFE {run}"
        )
    return table
