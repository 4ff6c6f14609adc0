"""The command `realchat plan`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """The command's arguments and options, each with its phrase of help."""

    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Recipe values to change."),
    ] = None
    recipe: Annotated[
        Path | None, typer.Option(help="A YAML file, or a shipped one's name. [default: demo]")
    ] = None
    conversations: Annotated[
        str, typer.Option(metavar="N", help="How many, as 1_000_000. [default: the recipe's]")
    ] = ""
    gpus: Annotated[
        int,
        typer.Option(
            min=0, help="How many, a worker on each `tensor_parallel`; 0: this machine's cores."
        ),
    ] = 0
    gpu: Annotated[
        str | None, typer.Option(help="Which: a100, h100, h200 or l40s. [default: h100]")
    ] = None
    rates: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="A finished run's folder on such a machine, or an engine's measured speed.",
        ),
    ] = None
    gpu_hour: Annotated[float | None, typer.Option(min=0, help="Price of a GPU's hour.")] = None
    prompt_price: Annotated[
        float | None,
        typer.Option(min=0, help="Of a million prompt tokens, where no engines.*.price is."),
    ] = None
    completion_price: Annotated[
        float | None, typer.Option(min=0, help="Of a million tokens written, likewise.")
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False


def plan(options: PlanOptions) -> None:
    """Forecast a simulation: hours, tokens, GPU-hours, storage and money; nothing is begun."""
    from pipelines.forecast import Wanted, forecast, rates_of, report
    from pipelines.recipe import DEFAULT, Recipe
    from usersim.errors import InputError

    if options.gpu and not options.gpus:
        raise InputError(f"--gpu {options.gpu} says which the GPUs of --gpus are: say how many")
    recipe = Recipe.load(options.recipe or DEFAULT, options.overrides or ())
    wanted = Wanted(
        conversations=_count(options.conversations) or recipe.simulate.conversations,
        gpus=options.gpus,
        device=options.gpu or "h100",
        gpu_hour=options.gpu_hour,
        prompt_million=options.prompt_price,
        completion_million=options.completion_price,
    )
    made = forecast(recipe, wanted, rates_of(recipe, wanted, options.rates))
    typer.echo(json.dumps(made.to_dict()) if options.as_json else report(recipe, wanted, made))


def _count(text: str) -> int:
    from usersim.errors import InputError

    digits = text.replace("_", "").replace(",", "")
    if text and (not digits.isdecimal() or int(digits) < 1):
        raise InputError(f"--conversations {text!r} is no number of conversations; as 1_000_000")
    return int(digits or 0)
