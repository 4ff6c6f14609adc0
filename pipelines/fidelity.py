"""`realchat fidelity`: how close a user model, and what it simulates, is to real people."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from usersim.conversation import Conversation
from usersim.errors import InputError, WorldError

log = logging.getLogger(__name__)

NO_BASE = "the model's own base is not known: name one by --base"
SERVED = "the recipe's engines.user is an endpoint, which serves the user model and not its base"


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityOptions:
    """The command's options, each with its phrase of help."""

    user_model: Annotated[
        str, typer.Option(metavar="PATH", help="A run's folder, a checkpoint, or a model's name.")
    ]
    reference: Annotated[
        str,
        typer.Option(
            metavar="FILE_OR_SOURCE",
            help="Real people: a file of conversations, a run's people/test.parquet, or a source.",
        ),
    ]
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the figures go, as JSON.")]
    simulated: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A run or a file. [default: simulate a few here]"),
    ] = None
    limit: Annotated[
        int, typer.Option(metavar="N", min=4, help="Persons of each side at most.")
    ] = 300
    conversations: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="To simulate where no run is named; 0: none."),
    ] = 48
    baseline: Annotated[
        int, typer.Option(metavar="N", min=0, help="To simulate by the baseline; 0: none.")
    ] = 48
    base: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help="The baseline's model. [default: the user model's base]"
        ),
    ] = ""
    assistant: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help="Who answers in simulations held here. [default: the run's]"
        ),
    ] = ""
    dev: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="People to choose the baseline's prompt on. [default: the run's dev]",
        ),
    ] = ""
    train: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="People whom the model learned from. [default: the run's]"
        ),
    ] = ""
    splits: Annotated[
        int, typer.Option(metavar="N", min=1, help="Halvings behind the classifiers' floor.")
    ] = 5
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False


def fidelity(options: FidelityOptions) -> None:
    """Hold a user model against real people: every figure beside a floor and a baseline."""
    from pipelines.fidelity_page import write_page
    from pipelines.fidelity_screen import screen
    from pipelines.stage_process import quieten
    from usersim.files import write_json

    quieten()
    page = options.out.with_suffix(".html")
    check_out(options.out, (page, work_folder(options.out)))
    table = measure(options)
    write_json(options.out, table)
    write_page(page, table)
    typer.echo(screen(table))
    typer.echo(f"\n{options.out}\n{page}")


def check_out(out: Path, beside: Sequence[Path]) -> None:
    """Whether figures can be written there, before they are measured.

    Raises InputError where the name is a folder's or that of a thing that is put beside it, and
    WorldError where the disk refuses.
    """
    import tempfile

    if out in beside or out.is_dir():
        reason = "a folder" if out.is_dir() else "what is put beside the figures"
        raise InputError(f"--out: {out} is the name of {reason}: name a file, as in fidelity.json")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise WorldError(f"cannot write {out}: {error.strerror or error}") from error


def measure(options: FidelityOptions) -> dict[str, Any]:
    """The table of fidelity.json; see docs/fidelity.md.

    Raises InputError for a model, people or simulation that cannot be used. What cannot be had
    (no engine, no base) is left out, with the reason.
    """
    from pipelines.fidelity_inputs import Names, RealPeople, UserModel, read_simulation
    from usersim.fidelity.measure import Material, MeasureSettings, measured
    from usersim.fidelity.two_sample import TwoSampleSettings

    model = UserModel.named(options.user_model)
    names = Names(options.reference, options.dev, options.train)
    people = RealPeople.read(model, names, options.limit)
    # Before the models' work of minutes: the name may be wrong.
    named = read_simulation(options.simulated, options.limit) if options.simulated else None
    scores = Scores.of(model, people, options)
    work = Work(model, options, scores.prompt)
    ours, theirs = named or work.ours(), work.baseline()
    material = Material(
        real=people.reference.persons,
        simulated=ours.persons,
        prompted=theirs,
        scores=scores.by_model,
        bias={"user_model": model.end_bias},
        briefs=ours.briefs,
        confusion_of_attempts=ours.confusion_of_attempts,
        training=people.training,
    )
    settings = MeasureSettings(two_sample=TwoSampleSettings(splits=options.splits))
    table = measured(material, settings)
    table["left_out"] |= scores.left_out | work.left_out
    about = {
        "user_model": model.name,
        "end_bias": model.end_bias,
        "reference": {"name": Path(options.reference).name, **people.reference.to_dict()},
        "simulated": {"name": ours.name, **_counts(ours.persons)}
        | {"published": ours.published, "rejected": ours.rejected},
        "prompted": {"model": scores.base, "prompt": scores.prompt, **_counts(theirs)},
        "prompts_tried": scores.tried,
        "prompt_chosen_on": people.dev_name,
        "context": model.context.view.model_dump(mode="json") | {"windows": model.context.windows},
        "training_conversations": len(people.training),
    }
    return {"about": about, **table}


def _counts(persons: Sequence[Any]) -> dict[str, int]:
    conversations = [c for person in persons for c in person.conversations]
    turns = sum(len(c.user_turns) for c in conversations)
    return {"persons": len(persons), "conversations": len(conversations), "user_turns": turns}


@dataclass(frozen=True, slots=True)
class Scores:
    """What models made of real people's turns, and the instruction chosen for the baseline."""

    by_model: Mapping[str, Sequence[Any]]
    base: str
    prompt: str
    tried: Mapping[str, float]
    """Perplexity on dev people, by instruction."""
    left_out: dict[str, str]

    @classmethod
    def of(cls, model: Any, people: Any, options: FidelityOptions) -> "Scores":
        """Ask the user model about the reference, choose on dev people, ask the baseline."""
        from usersim.checkpoints import resolve_checkpoint
        from usersim.fidelity.likelihood import scored
        from usersim.fidelity.persons import conversations_of

        real = conversations_of(people.reference.persons)
        told = _told(model, people)
        context, keep = model.context, work_folder(options.out)
        found = scored(model.checkpoint, real, told, context, keep)
        base = options.base or str(model.about.get("base", ""))
        if not base:
            return cls(found, "", "", {}, {"prompted": NO_BASE})
        try:
            checkpoint = resolve_checkpoint(base)
        except (InputError, WorldError) as error:
            return cls(found, base, "", {}, {"prompted": str(error)})
        dev = conversations_of(people.dev)
        prompt, tried = best_prompt(checkpoint, dev, context, keep)
        theirs = scored(checkpoint, real, {"prompted": lambda _: prompt}, context, keep)
        return cls({**found, **theirs}, base, prompt, tried, {})


def work_folder(out: Path) -> Path:
    """Where scores and simulations of a measurement are kept, beside its output."""
    return out.with_suffix(".work")


def best_prompt(
    checkpoint: Path, dev: Sequence[Conversation], context: Any, keep: Path | None = None
) -> tuple[str, dict[str, float]]:
    """The instruction under which dev people's turns are likeliest, and the perplexity of each.

    By the first window of each conversation: that is enough to rank instructions.
    """
    import math

    from usersim.fidelity.likelihood import PROMPTS, mean_nll, scored

    told = {prompt: (lambda _, prompt=prompt: prompt) for prompt in PROMPTS}
    found = scored(checkpoint, dev, told, context.model_copy(update={"windows": 1}), keep)
    tried = {prompt: round(math.exp(mean_nll(found[prompt])), 3) for prompt in PROMPTS}
    return min(tried, key=lambda prompt: tried[prompt]), tried


def _told(model: Any, people: Any) -> dict[str, Any]:
    """Ways to tell the user model of a person: nothing, and what its training told: each, both."""
    from functools import partial

    from usersim.conditions import Teller
    from usersim.fidelity.persons import conversations_of

    told: dict[str, Any] = {"user_model": lambda _: ""}
    known = people.training or conversations_of(people.reference.persons)
    asked = model.recipe.train_user.conditions.model_copy(update={"intent_share": 1.0})
    teller = Teller(asked, known, 0, model.written_intents)
    if "profile" in model.conditions:
        told["with_profile"] = partial(teller.told, intent=False, profile=True)
    if "intent" in model.conditions:
        told["with_intent"] = partial(teller.told, intent=True, profile=False)
    if told.keys() >= {"with_profile", "with_intent"}:
        told["with_both"] = partial(teller.told, intent=True, profile=True)
    return told


class Work:
    """Small simulations that are held here and kept beside the output."""

    def __init__(self, model: Any, options: FidelityOptions, prompt: str) -> None:
        self._model, self._options, self._prompt = model, options, prompt
        self._base = options.base or str(model.about.get("base", ""))
        self.left_out: dict[str, str] = {}

    def ours(self) -> Any:
        """What the user model simulates; empty where it cannot."""
        from pipelines.fidelity_inputs import Simulation
        from usersim.fidelity.persons import persons_of, shuffled

        number = self._options.conversations
        held = self._held("simulated", number, str(self._model.checkpoint), "")
        return Simulation(shuffled(persons_of(held)), name="simulated for this measurement")

    def baseline(self) -> list[Any]:
        """What the baseline simulates; empty where it cannot."""
        from usersim.fidelity.persons import persons_of, shuffled

        if not self._base or not self._prompt:
            return []
        held = self._held("prompted", self._options.baseline, self._base, self._prompt)
        return shuffled(persons_of(held))

    def _held(self, point: str, number: int, user: str, told: str) -> list[Conversation]:
        from pipelines.fidelity_inputs import speaking
        from usersim.fidelity.baseline import Speakers, simulated

        if not number:
            self.left_out[point] = "not asked for"
            return []
        few = min(number, self._options.limit)
        settings, spec, assistant = speaking(self._model, few, self._options.assistant)
        if settings.candidates < self._model.recipe.simulate.candidates:
            self.left_out["candidates"] = "no learned likeness beside the model: turns as drawn"
        if told:
            settings = settings.model_copy(update={"end_bias": 0.0, "candidates": 1})
            if spec.kind == "endpoint":
                self.left_out[point] = SERVED
                return []
            if spec.kind == "vllm":
                spec = spec.model_copy(update={"model": user, "name": "", "adapter": ""})
        folder = work_folder(self._options.out)
        try:
            return simulated(Speakers(spec, assistant, told), settings, folder, seed=7)
        except (InputError, WorldError) as error:
            if str(error).startswith("stopped by SIG"):
                raise  # somebody wants an end, not a smaller table; what was held is kept
            log.warning("%s: left out: %s", point, error)
            self.left_out[point] = str(error)
            return []
