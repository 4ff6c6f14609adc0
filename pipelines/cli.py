"""The command `realchat`. Thin: it reads arguments, and calls what does the work."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, ParamSpec

import typer

from pipelines import character_verbs, curation_verbs, persona_verbs
from pipelines.compare_verb import compare
from pipelines.dashboard.command import dashboard
from pipelines.failures import DEBUG, explained
from pipelines.fidelity import fidelity
from pipelines.plan_verb import plan
from pipelines.publish_options import PublishOptions, asked
from pipelines.replay_verb import replay
from pipelines.stage_table import STAGES, Stage, stage_named
from usersim.errors import InputError
from usersim.gauges import PORT

if TYPE_CHECKING:
    from pipelines.recipe import Recipe
    from pipelines.run_folder import RunFolder

Arguments = ParamSpec("Arguments")

EXAMPLES = """\b
Examples:
  realchat run                                        the whole path on two cores, into runs/demo
  realchat run name=small simulate.conversations=20   one value changed, into runs/small
  realchat ingest --run runs/mine ingest.source=my.jsonl    begin with your own conversations
  realchat train-user --run runs/mine                 the next stage of the same run
  realchat chat --run runs/demo                       talk to a model of a run

A stage that is done is not done again; after Ctrl-C or a crash the same command goes on from there.
"""
ABOUT = """A factory for multi-round chat corpora, driven by a user simulator of real people.

Each stage is a command; `realchat run` does them all. A run is one recipe (a YAML file) and one
folder, which keeps everything that was made, and why the rest was not kept.
"""

app = typer.Typer(
    name="realchat",
    help=ABOUT,
    epilog=EXAMPLES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipePath = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        help="A YAML file, or the name of a shipped one. [default: the run's own, else demo]",
    ),
]
RunPath = Annotated[
    Path | None, typer.Option("--run", help="The run's folder. [default: runs/<the recipe's name>]")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Recipe values to change, as simulate.conversations=50"
    ),
]
Redo = Annotated[
    bool, typer.Option("--redo", help="Do it again, and forget what later stages made of it.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and what libraries say.")]


def guarded(verb: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Turn whatever ends a verb into one message on stderr and an exit code."""

    @wraps(verb)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if kwargs.get("debug"):
            os.environ[DEBUG] = "1"
        try:
            verb(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last frame of the program
            fail(error)

    return run


def fail(error: BaseException) -> NoReturn:
    """Show what ended the command, and exit."""
    if isinstance(error, typer.Exit | SystemExit):
        raise error
    message, code = explained(error)
    say(f"realchat: {message}")
    raise typer.Exit(code)


def say(line: str) -> None:
    """A line for the person at the terminal; stdout is kept for results."""
    typer.echo(line, err=True)


@dataclass(frozen=True, slots=True)
class Options:
    """Where the recipe and the run's folder are, when they were named."""

    recipe: Path | None
    run: Path | None


def opened(options: Options, overrides: list[str] | None) -> "tuple[Recipe, RunFolder]":
    """The recipe and the folder that a command means."""
    from pipelines.recipe import DEFAULT, Recipe
    from pipelines.run_folder import RunFolder

    own = RunFolder(options.run) if options.run else None
    path = options.recipe or (own.recipe_file if own and own.exists else DEFAULT)
    recipe = Recipe.load(path, overrides or ())
    return recipe, own or RunFolder(Path("runs") / recipe.name)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"realchat {version('realchat')}")
        raise typer.Exit


def do(
    names: Sequence[str], options: Options, overrides: list[str] | None, redo: str | None = None
) -> "RunFolder":
    """Carry out stages of the run that the options mean, or all that its recipe names."""
    from pipelines.stage_process import carry_out

    recipe, run = opened(options, overrides)
    stages = [stage_named(name) for name in names] or recipe.planned
    carry_out(stages, recipe, run, say, stage_named(redo) if redo else None)
    return run


@app.callback()
def realchat(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """See ABOUT, which is what the command shows."""


@app.command("run")
@guarded
def run_all(
    overrides: Overrides = None,
    recipe: RecipePath = None,
    run: RunPath = None,
    redo: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Do this stage and those after it anew.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Do every stage that is not done yet, in order."""
    from pipelines.last_screen import last_screen

    folder = do((), Options(recipe, run), overrides, redo)
    typer.echo("\n" + last_screen(folder))


def stage_verb(stage: Stage) -> Callable[..., None]:
    """The command of one stage."""

    def verb(
        overrides: Overrides = None,
        recipe: RecipePath = None,
        run: RunPath = None,
        redo: Redo = False,
        debug: Debug = False,
    ) -> None:
        folder = do((stage.name,), Options(recipe, run), overrides, stage.name if redo else None)
        for output in stage.outputs:
            typer.echo(folder.root / output)

    return verb


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """What the stage's verb can be asked, with what only `simulate` has."""

    overrides: Overrides = None
    recipe: RecipePath = None
    run: RunPath = None
    redo: Redo = False
    extend: Annotated[
        int | None,
        typer.Option(metavar="N", help="Let a run grow to N conversations; keep what it has."),
    ] = None
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve Prometheus metrics on this port of localhost."),
    ] = None
    debug: Debug = False


@asked
def simulate(options: SimulateOptions) -> None:
    """The stage's verb, a way to add conversations to a run, and one to watch it."""
    overrides, run = options.overrides, options.run
    if options.metrics_port is not None:
        os.environ[PORT] = str(options.metrics_port)  # the stage's own process serves them
    if options.extend is not None:
        from pipelines.grow import extend as grow

        if options.recipe or options.redo:
            raise InputError("--extend goes on with a run as it is: leave out --recipe and --redo")
        folder = opened(Options(None, run), overrides)[1]
        grow(folder, options.extend, overrides or ())
        overrides, run = None, folder.root  # the folder has adopted them
    stage_verb(stage_named("simulate"))(overrides, options.recipe, run, options.redo)


for each in STAGES:
    title = each.title[0].upper() + each.title[1:]
    with_more = simulate if each.name == "simulate" else stage_verb(each)
    app.command(each.verb, help=f"{title}.")(guarded(with_more))


@app.command()
@guarded
def chat(
    model: Annotated[
        str, typer.Argument(help="`assistant` or `user` of the run, a folder, or a model's name.")
    ] = "assistant",
    run: RunPath = None,
    debug: Debug = False,
) -> None:
    """Talk to a model in the terminal."""
    named = opened(Options(None, run), None)[1].model_named(model)
    from assistant.chat import chat as talk
    from pipelines.stage_process import quieten

    quieten()
    talk(named)


@app.command()
@guarded
def doctor(
    brief: Annotated[
        bool, typer.Option("--brief", help="Only what matters, in a few lines.")
    ] = False,
    debug: Debug = False,
) -> None:
    """What this machine has, and what to do about what is missing."""
    from pipelines.doctor import examine, shown

    findings = examine()
    typer.echo(shown(findings, brief=brief))
    raise typer.Exit(max((f.exit_code for f in findings), default=0))


@app.command()
@guarded
@asked
def publish(options: PublishOptions) -> None:
    """Bring the corpus or a model of a run to a model hub, whole and checked."""
    from pipelines.publish_plan import publish_run
    from pipelines.stage_process import quieten

    quieten()
    typer.echo(publish_run(options))


@app.command()
@guarded
def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    debug: Debug = False,
) -> None:
    """Prove a run: plan, turns, funnels, figures and hashes; exit code 1 with findings."""
    from pipelines.verify import report, verify

    checks = verify(run)
    typer.echo(report(checks))
    raise typer.Exit(1 if any(check.problems for check in checks) else 0)


app.command()(guarded(replay))
app.command()(guarded(asked(plan)))
app.command()(guarded(asked(fidelity)))


@app.command()
@guarded
def retry(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    reason: Annotated[
        str, typer.Option(metavar="R", help="Why they ended or were rejected: error, bad_turn ...")
    ],
    debug: Debug = False,
) -> None:
    """Hold conversations that failed for a reason again; the others stay as they are."""
    from pipelines.grow import retry
    from pipelines.run_folder import RunFolder

    say(f"{retry(RunFolder(run), reason)} conversations are held again")
    do(("simulate",), Options(None, run), None)


@app.command()
@guarded
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    layout: Annotated[
        str, typer.Option("--format", help="sharegpt, openai, chatml or parquet.")
    ] = "sharegpt",
    split: Annotated[str, typer.Option(help="Split of the corpus: train or test.")] = "train",
    debug: Debug = False,
) -> None:
    """Write the corpus as one file in the layout of another trainer."""
    from pipelines.export import export

    done = export(run, layout, out, split)
    omitted = f", {len(done.left_out)} left out that hold its marks" if done.left_out else ""
    say(f"{done.conversations} conversations{omitted}")
    typer.echo(done.path)


persona_verbs.add_to(app, guarded)
character_verbs.add_to(app, guarded)
app.command()(guarded(compare))
curation_verbs.add_to(app, guarded)
app.command()(guarded(dashboard))


def main() -> None:
    """The entry point: a polite request to end counts as Ctrl-C."""
    signal.signal(signal.SIGTERM, _terminated)
    app()


def _terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
