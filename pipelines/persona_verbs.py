"""`realchat personas ...`: people and scenes on paper, and people who speak and think."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from usersim.errors import InputError

Guard = Callable[[Callable[..., None]], Callable[..., None]]

EXAMPLES = """\b
Examples:
  realchat personas make --out people.jsonl                        68 people, figures on stderr
  realchat personas make number=10000 --out many.jsonl             ten thousand, under a minute
  realchat personas make quotas.gender='{woman: 1}' --out w.jsonl  a quota of your own
  realchat personas show mine.yaml                                 four aspects -> a whole person
  realchat personas check people.jsonl                             names, ages, near-duplicates
  realchat personas interact --people people.jsonl --scenes scenes.jsonl --out scripts parties=3
  realchat personas train runs/simschat --out models/player   plays characters
  realchat personas ablate runs/simschat --out worth          what the header is worth
"""

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]

verbs = typer.Typer(
    help="Make people, show them, check a file of them.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_to(app: typer.Typer, guarded: Guard) -> None:
    """Give the command its `personas` verbs."""
    for name, verb in VERBS.items():
        verbs.command(name)(guarded(verb))
    app.add_typer(verbs, name="personas")


def make(
    out: Annotated[Path, typer.Option(help="File to write: personas, one JSON object a line.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="As number=10000, seed=3, quotas.length.short=1"),
    ] = None,
    scenes: Annotated[Path | None, typer.Option(help="File for their scenes too.")] = None,
    each: Annotated[int, typer.Option(min=1, help="Scenes of every persona.")] = 20,
    debug: Debug = False,
) -> None:
    """Make distinct people by quota; print their marginals and collisions."""
    from usersim.personas.factory import FactorySettings, make_personas
    from usersim.personas.scenes import SceneSettings, make_scenes, scene_marginals, write_scenes
    from usersim.personas.schema import write_personas

    settings = _settings(FactorySettings, overrides or ())
    made = make_personas(settings)
    write_personas(out, made.personas)
    figures = made.figures()
    if scenes:
        listed = make_scenes(made.personas, SceneSettings(each=each, seed=settings.seed))
        write_scenes(scenes, listed)
        figures["scenes"] = {"number": len(listed), **scene_marginals(listed)}
    typer.echo(json.dumps(figures, ensure_ascii=False, indent=1))


def show(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="YAML, JSON or JSONL.")],
    number: Annotated[int, typer.Option(help="Which person of the file, from 1.")] = 1,
    seed: Annotated[int, typer.Option(help="For what the file does not say.")] = 7,
    layout: Annotated[str, typer.Option("--format", help="prose, yaml, json or user.")] = "prose",
    debug: Debug = False,
) -> None:
    """Show a person as a whole; what the file leaves out is made up, the same under one seed."""
    from usersim.personas.factory import complete
    from usersim.personas.schema import read_tables

    tables = read_tables(path)
    if not 1 <= number <= len(tables):
        raise InputError(f"{path} holds {len(tables)} people; there is no number {number}")
    typer.echo(_shown(complete(tables[number - 1], seed), layout))


def schema(debug: Debug = False) -> None:
    """Print the JSON schema of a persona, for editors and servers."""
    from usersim.personas.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=1))


def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="YAML, JSON or JSONL.")],
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Jaccard similarity of near-duplicates.")
    ] = 0.6,
    debug: Debug = False,
) -> None:
    """Check a file of people: exit code 1 when a name, an age or a life stands for too many."""
    from usersim.personas.check import check_people

    report = check_people(path, threshold)
    typer.echo(json.dumps(report.figures, ensure_ascii=False, indent=1))
    for problem in report.problems:
        typer.echo(problem, err=True)
    raise typer.Exit(1 if report.problems else 0)


def interact(
    people: Annotated[Path, typer.Option(help="File of personas.")],
    scenes: Annotated[Path, typer.Option(help="File of their scenes.")],
    out: Annotated[Path, typer.Option(help="Folder for scripts, rejected ones and the journal.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="As parties=3, thinkers=all, engine.model=NAME"),
    ] = None,
    number: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many scenes.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Let the people of scenes speak and think; the same command goes on after a crash."""
    from pipelines.stage_process import quieten
    from usersim.personas.acts import InteractSettings
    from usersim.personas.interact import interact
    from usersim.personas.scenes import read_scenes
    from usersim.personas.schema import read_personas

    quieten()
    settings = _settings(InteractSettings, overrides or ())
    listed = read_scenes(scenes)[:number]
    figures = interact(settings, read_personas(people), listed, out)
    typer.echo(json.dumps(figures, ensure_ascii=False, indent=1))


Played = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A role-play run, or what `interact` wrote.")
]
Base = Annotated[str, typer.Option("--model", help="The model that learns.")]
Learning = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="As train_tokens=50000, script.loss=speech"),
]


def train(
    folder: Played,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    overrides: Learning = None,
    base: Base = "smollm2-135m-instruct",
    debug: Debug = False,
) -> None:
    """Train a model to play characters; its loss is told on characters it never met."""
    from assistant.roleplay import RoleplaySettings, read_plays, train_roleplay
    from pipelines.stage_process import quieten

    quieten()
    settings = _settings(RoleplaySettings, overrides or ())
    figures = train_roleplay(settings, base, read_plays(folder), out)
    typer.echo(json.dumps(figures, ensure_ascii=False, indent=1))


def ablate(
    folder: Played,
    out: Annotated[Path, typer.Option(help="Folder for ablation.json.")],
    overrides: Learning = None,
    base: Base = "smollm2-135m-instruct",
    debug: Debug = False,
) -> None:
    """Tell what aspects, scene and emotion are each worth to unseen characters."""
    from assistant.roleplay import RoleplaySettings, ablate, ablation_table, read_plays
    from pipelines.stage_process import quieten

    quieten()
    settings = _settings(RoleplaySettings, overrides or ())
    result = ablate(settings, base, read_plays(folder), out)
    typer.echo(ablation_table(result))


def enrich(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Personas, one a line.")],
    out: Annotated[Path, typer.Option(help="File of the enriched personas.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="As engine.model=NAME, attempts=5"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Let an engine write people's lives under a JSON schema; aspects, name and age stay."""
    from pipelines.stage_process import quieten
    from usersim.files import write_rejections
    from usersim.personas.enrich import EnrichSettings, enrich
    from usersim.personas.schema import read_personas, write_personas

    quieten()
    done = enrich(_settings(EnrichSettings, overrides or ()), read_personas(path))
    write_personas(out, done.personas)
    write_rejections(out.with_suffix(".rejected.parquet"), done.rejections)
    typer.echo(json.dumps(done.figures(), ensure_ascii=False, indent=1))


def measure(
    folder: Played,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Of the judge, as engine.kind=endpoint"),
    ] = None,
    judge: Annotated[
        str, typer.Option(metavar="MODEL", help="Let a model name emotion and topic too.")
    ] = "",
    debug: Debug = False,
) -> None:
    """Tell how far every condition was followed: emotion, topic, style, length, character."""
    from assistant.roleplay import read_plays
    from pipelines.stage_process import quieten
    from usersim.personas.compliance import compliance
    from usersim.personas.label_judge import LabelJudgeSettings, judge_labels

    if overrides and not judge:
        raise InputError(f"{' '.join(overrides)} is of the judge: name one with --judge MODEL")
    plays = read_plays(folder)
    figures = compliance(plays.scripts, plays.people)
    if judge:
        quieten()
        settings = _settings(LabelJudgeSettings, [*(overrides or ()), f"engine.model={judge}"])
        figures["judge"] = {"model": judge, **judge_labels(settings, plays.scripts)}
    typer.echo(json.dumps(figures, ensure_ascii=False, indent=1))


def import_simschat(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="Data in SimsChat's layout.")],
    out: Annotated[Path, typer.Option(help="Folder for scripts, and for what was broken.")],
    debug: Debug = False,
) -> None:
    """Read SimsChat's four folders; list every broken row and missing dialogue with its reason."""
    from usersim.personas.sims_import import read_simschat

    found = read_simschat(root)
    found.write(out)
    typer.echo(json.dumps(found.figures(), ensure_ascii=False, indent=1))


def _shown(persona: Any, layout: str) -> str:
    import yaml

    from usersim.personas.prose import to_prose
    from usersim.personas.roleplay import profile_line

    layouts: dict[str, Callable[[], str]] = {
        "prose": lambda: to_prose(persona),
        "yaml": lambda: yaml.safe_dump(persona.to_row(), sort_keys=False, allow_unicode=True),
        "json": lambda: json.dumps(persona.to_row(), ensure_ascii=False, indent=1),
        "user": lambda: profile_line(persona),
    }
    if layout not in layouts:
        raise InputError(f"no format {layout!r}; known: {', '.join(layouts)}")
    return layouts[layout]()


def _settings(model: Any, overrides: Any) -> Any:
    """The settings that KEY=VALUE overrides make. Raises InputError naming every problem."""
    from pydantic import ValidationError

    from pipelines.recipe import overridden

    try:
        return model.model_validate(overridden({}, overrides))
    except ValidationError as error:
        problems = [f"  {'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()]
        known = ", ".join(model.model_fields)
        raise InputError("\n".join([f"settings (known: {known}):", *problems])) from error


VERBS: dict[str, Callable[..., None]] = {
    "make": make,
    "show": show,
    "schema": schema,
    "check": check,
    "enrich": enrich,
    "interact": interact,
    "measure": measure,
    "train": train,
    "ablate": ablate,
    "import": import_simschat,
}
