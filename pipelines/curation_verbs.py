"""The commands that look at a run's curation: its gate, and what it changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from usersim.errors import InputError

Guard = Callable[[Callable[..., Any]], Callable[..., Any]]

RunFolderPath = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def add_to(app: typer.Typer, guarded: Guard) -> None:
    """Give the command its curation verbs."""
    app.command("gate")(guarded(gate))
    app.command("before-after")(guarded(before_after))
    app.command("train-quality")(guarded(train_quality))


def gate(
    run: RunFolderPath,
    debug: Debug = False,
) -> None:
    """Check a run's figures against its recipe's bounds; exit code 1 with those that fail."""
    from pipelines.gate import checks, figures_for_gate, report
    from pipelines.publish_plan import gate_settings
    from pipelines.run_folder import RunFolder

    folder = RunFolder(run)
    if not folder.exists:
        raise InputError(f"{run} is no run folder; `realchat run` makes one")
    found = checks(gate_settings(folder), figures_for_gate(run))
    typer.echo(report(found))
    raise typer.Exit(0 if all(check.passed for check in found) else 1)


def before_after(
    run: RunFolderPath,
    debug: Debug = False,
) -> None:
    """What curation changed: raw and curated side by side, against held-out people."""
    from pipelines.before_after import before_after, markdown

    typer.echo(markdown(before_after(run)))


def train_quality(
    run: RunFolderPath,
    out: Annotated[Path, typer.Option(help="The model's file; figures go beside it (.json).")],
    kind: Annotated[
        str,
        typer.Option(help="users: people against simulated; answers: kept against rejected."),
    ] = "users",
    debug: Debug = False,
) -> None:
    """Train a fastText quality model on a run; print its held-out figures."""
    import json

    from pipelines.quality import train_quality

    typer.echo(json.dumps(train_quality(run, kind, out), indent=2))
