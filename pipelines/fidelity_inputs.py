"""What `realchat fidelity` reads: the model with its run, real people, simulated conversations."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.run_view import as_number, numbers_of
from usersim.briefs import Brief
from usersim.checkpoints import about_checkpoint, resolve_checkpoint
from usersim.conversation import Conversation
from usersim.errors import InputError
from usersim.fidelity.likelihood import Context
from usersim.fidelity.persons import Person, conversations_of, persons_of, shuffled
from usersim.fidelity.reference import (
    FEWEST_PERSONS,
    Reference,
    of_other_languages,
    read_reference,
    set_aside,
)
from usersim.fidelity.roles import confusion_of_attempts
from usersim.files import read_conversations, read_json
from usersim.leaving import EndBias, learned_bias
from usersim.plan import Agenda

if TYPE_CHECKING:
    from usersim.engines import EngineSpec
    from usersim.plan import SimulateSettings

log = logging.getLogger(__name__)

MANY = 0.05
"""Share of people of another language from which a reference is not the model's own."""


@dataclass(frozen=True, slots=True)
class UserModel:
    """The user model, and what is known of where it comes from."""

    name: str
    checkpoint: Path
    about: Mapping[str, Any]
    run: RunFolder | None
    """The run in which it was trained, where it still stands there."""
    recipe: Recipe
    """That run's; else the defaults."""

    @classmethod
    def named(cls, name: str) -> "UserModel":
        """A run's folder, a checkpoint's, or a model's name. Raises InputError otherwise."""
        own = RunFolder(Path(name)).user_model
        checkpoint = resolve_checkpoint(own if own.is_dir() else name)
        root = checkpoint.resolve().parent.parent
        run = RunFolder(root) if (root / "recipe.yaml").is_file() else None
        recipe = Recipe()
        if run:
            with suppress(InputError):  # an older version's recipe: its values are not essential
                recipe = Recipe.load(run.recipe_file, ())
        return cls(checkpoint.name, checkpoint, about_checkpoint(checkpoint), run, recipe)

    @property
    def context(self) -> Context:
        """How much of a conversation it sees: as in training."""
        return Context(view=self.recipe.train_user.view)

    @property
    def end_bias(self) -> EndBias:
        """What is added to its logit of leaving."""
        return learned_bias(self.about)

    @property
    def conditions(self) -> list[str]:
        """What it was trained to be told: `profile`, `intent`."""
        told = (self.about.get("perplexity") or {}).get("told") or {}
        return [name for name in ("profile", "intent") if told.get(name) is not None]

    @property
    def written_intents(self) -> Mapping[str, str]:
        """Intents that somebody wrote of its people, by conversation; the others' are read off."""
        from usersim.intents import told_intents

        return told_intents(self.run.people) if self.run else {}

    def people(self, split: str) -> list[Conversation]:
        """A split of the run's people; empty where it is not known."""
        path = self.run.people / f"{split}.parquet" if self.run else None
        return read_conversations(path) if path and path.is_file() else []


@dataclass(frozen=True, slots=True)
class RealPeople:
    """Who it is held against, who prompts are chosen on, and who it learned from."""

    reference: Reference
    dev: list[Person]
    dev_name: str
    training: list[Conversation]

    @classmethod
    def read(cls, model: UserModel, names: "Names", limit: int) -> "RealPeople":
        """Nobody is in two of the three. Raises InputError for what is no source of people."""
        training = _training(model, names)
        reference = read_reference(names.reference, training)
        dev, title = _dev(model, names, training)
        reported = {c.id for c in conversations_of(reference.persons)}
        dev = [p for p in dev if not reported.intersection(c.id for c in p.conversations)]
        if len(dev) < FEWEST_PERSONS:
            dev, rest = set_aside(reference.persons)
            title = "a tenth of the reference, set aside"
            reference = replace(reference, persons=rest)
        kept = replace(reference, persons=reference.persons[:limit])
        if model.run:
            _check_language(kept, model.recipe.ingest.language)
        return cls(kept, dev[: names.dev_limit], title, training)


def _check_language(reference: Reference, language: str | None) -> None:
    """Say so where many people write in a language that the model has never learned."""
    others, persons = of_other_languages(reference.persons, language), len(reference.persons)
    if others > MANY * persons:
        log.warning(
            "%d of %d people of the reference write in another language than the model learned (%s)"
            ": figures would tell of that. `realchat ingest` keeps those of one language;"
            " its people/test.parquet is a reference",
            others,
            persons,
            language,
        )


@dataclass(frozen=True, slots=True)
class Names:
    """Sources of people as they were named; "" where they were not."""

    reference: str
    dev: str = ""
    train: str = ""
    dev_limit: int = 30


def _training(model: UserModel, names: Names) -> list[Conversation]:
    if names.train:
        return conversations_of(read_reference(names.train).persons)
    return model.people("train")


def _dev(
    model: UserModel, names: Names, training: Sequence[Conversation]
) -> tuple[list[Person], str]:
    if names.dev:
        return read_reference(names.dev, training).persons, Path(names.dev).name
    return shuffled(persons_of(model.people("dev"))), "the run's dev people"


@dataclass(frozen=True, slots=True)
class Simulation:
    """Simulated conversations, with what their run knows of them."""

    persons: Sequence[Person] = ()
    briefs: Mapping[str, Brief] = field(default_factory=dict)
    confusion_of_attempts: float | None = None
    name: str = ""
    published: int | None = None
    """Conversations of the whole run."""
    rejected: int | None = None
    """Those of which no round was finished."""


def read_simulation(path: Path, limit: int) -> Simulation:
    """A run's conversations (before curation), or a file's. At most `limit`, by hash of their ids.

    Raises InputError when there are none.
    """
    if not path.is_dir():
        persons = read_reference(str(path)).persons
        return Simulation(shuffled(persons)[:limit], name=path.name)
    run = RunFolder(path)
    parts = sorted(run.conversations.glob("*.parquet"))
    conversations = [c for part in parts for c in read_conversations(part)]
    if not conversations:
        raise InputError(f"{path} holds no simulated conversation: run `realchat simulate` first")
    persons = shuffled(persons_of(conversations))[:limit]
    metrics = read_json(run.metrics_file) if run.metrics_file.is_file() else {}
    talk = metrics.get("simulate") or {}
    stood, guards = sum(len(c.user_turns) for c in conversations), talk.get("guards")
    passed_over = int(as_number(talk.get("candidates_passed_over")) or 0)
    return Simulation(
        persons,
        _briefs(run, len(conversations)),
        None if guards is None else confusion_of_attempts(numbers_of(guards), stood + passed_over),
        path.resolve().name,
        len(conversations),
        talk.get("rejected"),
    )


def _briefs(run: RunFolder, number: int) -> dict[str, Brief]:
    """What each simulated person of a run was told, by conversation."""
    from pipelines.stages import simulation

    try:
        recipe = Recipe.load(run.recipe_file, ())
        settings, _, _, root, identity, seed = simulation(recipe, run)
        agenda = Agenda.of(settings, identity, seed, root)
    except InputError:
        return {}
    planned = max(settings.conversations, number)
    return {plan.id: plan.brief for plan in map(agenda.plan, range(planned))}


def speaking(
    model: UserModel, conversations: int, assistant: str
) -> "tuple[SimulateSettings, EngineSpec, EngineSpec]":
    """How a small simulation of our own is held: its settings, the user's engine, the assistant's.

    As in the model's run, where it is known; the assistant is `assistant`, or that run's.
    """
    from pipelines.stages import calibrated
    from usersim.engines import EngineSpec

    settings = calibrated(model.recipe.simulate, EngineSpec(model=str(model.checkpoint)))
    likeness = settings.likeness or str(model.run.likeness if model.run else "")
    settings = settings.model_copy(
        update={
            "likeness": likeness,
            "candidates": settings.candidates if Path(likeness).is_file() else 1,
            "conversations": conversations,
            "extended_at": (),
            "given": (),
            "briefs": "",
            "concurrency": min(settings.concurrency, conversations),
        }
    )
    nowhere = Path(os.devnull)
    engines = (
        model.recipe.user_engine(model.checkpoint, nowhere),
        model.recipe.assistant_engine(nowhere),
    )
    user, answers = (spec.model_copy(update={"log_dir": None}) for spec in engines)
    if user.kind == "vllm" and not user.adapter:
        user = user.model_copy(update={"model": str(model.checkpoint), "opens": "user"})
    if assistant:
        answers = answers.model_copy(update={"model": assistant, "name": ""})
    return settings, user, answers
