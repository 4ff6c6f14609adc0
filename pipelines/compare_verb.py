"""The verb `realchat compare`."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run's folder.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another's.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page. [default: RUN_B/compare-RUN_A.html]"),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Two runs side by side, the differences marked that are more than chance."""
    from rich.console import Console

    from pipelines.compare import compare_runs
    from pipelines.compare_page import page, table
    from usersim.files import write_text

    found = compare_runs(first, second)
    target = out or second / f"compare-{first.resolve().name}.html"
    text = page(found).encode("utf-8", "replace").decode()
    write_text(target, text)
    Console(soft_wrap=True).print(table(found))
    typer.echo(target)
