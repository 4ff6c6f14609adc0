"""The verb `realchat compare`."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run's folder.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another's.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page. [default: compare-RUN_A-RUN_B.html, here]"),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Two runs side by side, the differences marked that are more than chance."""
    from rich.console import Console

    from pipelines.compare import compare_runs
    from pipelines.compare_page import page, table
    from usersim.files import write_text

    found = compare_runs(first, second)
    # Beside neither run: both may be somebody else's, and a run folder holds what its run made.
    names = (first.resolve().name, second.resolve().name)
    target = out or Path(f"compare-{names[0]}-{names[1]}.html")
    text = page(found).encode("utf-8", "replace").decode()
    write_text(target, text)
    Console(soft_wrap=True).print(table(found))
    typer.echo(target)
