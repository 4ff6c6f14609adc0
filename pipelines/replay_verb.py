"""The command `realchat replay`."""

from pathlib import Path
from typing import Annotated

import typer


def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    conversation: Annotated[
        str, typer.Argument(metavar="ID", help="A row's `id`, or a conversation's number.")
    ],
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and what libraries say.")
    ] = False,
) -> None:
    """Hold one conversation again: identical, engine-nondeterministic or inputs changed.

    The first differing turn is shown. Exit code 0 when it is identical, else 1.
    """
    from pipelines.replay import replay, report
    from pipelines.stage_process import quieten

    quieten()
    done = replay(run, conversation)
    typer.echo(report(done))
    raise typer.Exit(0 if done.verdict == "identical" else 1)
