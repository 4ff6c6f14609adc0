"""What `realchat publish` can be asked."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions:
    """The command's arguments and options, each with its phrase of help."""

    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")]
    repo: Annotated[str, typer.Option(metavar="OWNER/NAME", help="The repository on the hub.")]
    what: Annotated[str, typer.Option(help="corpus, user-model or assistant-model.")] = "corpus"
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see it. [default: private]")
    ] = False
    tag: Annotated[
        str | None, typer.Option(help="The release's tag. [default: the next of v1, v2 ...]")
    ] = None
    license_confirmed: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Why it may be published, where a license is not known."),
    ] = None
    gate_overridden: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Why it may be published although `realchat gate` fails."
        ),
    ] = None
    yes: Annotated[
        bool, typer.Option("--yes/--dry-run", help="Send it, or only show what would be sent.")
    ] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False


def asked(verb: Callable[[Options], None]) -> Callable[..., None]:
    """A command whose options are the fields of what the verb takes (a dataclass)."""
    kind = get_type_hints(verb)["options"]

    def command(**given: Any) -> None:
        verb(kind(**given))

    hints = get_type_hints(kind, include_extras=True)
    parameters = [
        p.replace(annotation=hints[p.name]) for p in inspect.signature(kind).parameters.values()
    ]
    command.__name__, command.__doc__ = verb.__name__, verb.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = hints
    return command
