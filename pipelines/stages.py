"""The stages of a run, one after the other: the table of contents of everything realchat does.

Each function below is one stage: it reads what earlier stages left in the run folder, calls the
part that does the work, and returns the figures for metrics.json.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import Stage, stage_named
from usersim.checkpoints import EMBEDDED, about_checkpoint, resolve_checkpoint
from usersim.errors import InputError
from usersim.leaving import learned_bias, sum_of

if TYPE_CHECKING:
    from pipelines.curate import Curation
    from usersim.conversation import Conversation
    from usersim.engines import EngineSpec
    from usersim.plan import SimulateSettings

Figures = dict[str, Any]


def ingest(recipe: Recipe, run: RunFolder) -> Figures:
    """Real people's conversations: read, cleaned, deduplicated, split."""
    from usersim.people import ingest

    return ingest(recipe.ingest, run.people)


def train_user(recipe: Recipe, run: RunFolder) -> Figures:
    """UserGPT, from the turns that people typed."""
    from usersim.train import train_user

    return train_user(
        recipe.train_user, recipe.models.user, run.people, run.user_model, recipe.seed
    )


def learn_likeness(recipe: Recipe, run: RunFolder) -> Figures:
    """What tells this UserGPT's turns from people's, learned from a rehearsal of the simulation."""
    from usersim.learn_likeness import learn_likeness, rehearsal, typed_by
    from usersim.likeness import Likeness
    from usersim.plan import Agenda
    from usersim.simulate import simulate

    people = typed_by(run.people, recipe.likeness.people_turns, recipe.seed)
    identity, blind = recipe.identity(stage_named("learn_likeness")), run.rehearsal / "blind.npz"
    Likeness.blind().write(blind)
    user, assistant = (
        recipe.user_engine(run.user_model, run.logs),
        recipe.assistant_engine(run.logs),
    )
    settings = rehearsal(recipe.likeness, calibrated(recipe.simulate, user), blind)
    held = simulate(settings, user, assistant, run.rehearsal, identity, recipe.seed)
    agenda = Agenda(settings, identity, recipe.seed)
    learned = learn_likeness(people, agenda, run.rehearsal, run.likeness)
    shutil.rmtree(run.rehearsal)
    tokens = sum(used.get("completion", 0) for used in held["usage"].values())
    return learned | {"tokens": tokens, "seconds": held["seconds"]}


def simulate(recipe: Recipe, run: RunFolder) -> Figures:
    """Conversations between UserGPT and the assistant."""
    from usersim.simulate import simulate

    return simulate(*simulation(recipe, run))


def simulation(
    recipe: Recipe, run: RunFolder
) -> "tuple[SimulateSettings, EngineSpec, EngineSpec, Path, str, int]":
    """What `usersim.simulate.simulate` is given, in its order, wherever the engines run."""
    user = recipe.user_engine(run.user_model, run.logs)
    keep_cast(recipe, run)
    settings = calibrated(recipe.simulate, user)
    if recipe.learns_likeness:
        settings = settings.model_copy(update={"likeness": str(run.likeness)})
    return (
        settings,
        user,
        recipe.assistant_engine(run.logs),
        run.root,
        recipe.identity(stage_named("simulate")),
        recipe.seed,
    )


def keep_cast(recipe: Recipe, run: RunFolder) -> None:
    """Where there is role-play, write down once who played whom: rows hold ids only."""
    if recipe.simulate.cast.any:
        from usersim.personas.cast import cast_of

        cast_of(recipe.simulate.cast, recipe.seed).keep(run.conversations / "cast")


def curate(recipe: Recipe, run: RunFolder) -> Figures:
    """What is kept of them, and why the rest is not."""
    return curation(recipe, run).carry_out(simulated_rates(run))


def curation(recipe: Recipe, run: RunFolder) -> "Curation":
    """The curation that a recipe asks for, to be carried out here or elsewhere."""
    from pipelines.curate import Curation

    rejected = run.rejected / "curate.parquet"
    return Curation(recipe.curate, run.conversations, run.curated, rejected, run.people)


def simulated_rates(run: RunFolder) -> dict[str, float] | None:
    """The tokens a second at which each speaker's turns were made, where that is known."""
    rates: dict[str, float] | None = run.metrics().get("simulate", {}).get("tokens_per_s")
    return rates


def corpus(recipe: Recipe, run: RunFolder) -> Figures:
    """The published form: Parquet and a card."""
    from pipelines.corpus import build_corpus

    return build_corpus(
        recipe.corpus,
        run.curated,
        run.rejected,
        run.corpus,
        _facts(recipe, run.metrics()) | _fidelity(run) | {"revisions": _revisions(recipe, run)},
    )


def train_assistant(recipe: Recipe, run: RunFolder) -> Figures:
    """The student, from the corpus."""
    from assistant.train import train_assistant

    return train_assistant(
        recipe.train_assistant,
        recipe.models.student,
        run.corpus,
        run.people,
        run.assistant_model,
        recipe.seed,
    )


def train_character(recipe: Recipe, run: RunFolder) -> Figures:
    """A model that is a person."""
    from pipelines.characters import train_character

    return train_character(recipe, run)


def interview(recipe: Recipe, run: RunFolder) -> Figures:
    """That model beside its prompted base."""
    from pipelines.characters import interview

    return interview(recipe, run)


def report(recipe: Recipe, run: RunFolder) -> Figures:
    """One page about all of it."""
    from pipelines.report import write_report

    return write_report(run.root)


WORK: dict[str, Callable[[Recipe, RunFolder], Figures]] = {
    "ingest": ingest,
    "train_user": train_user,
    "learn_likeness": learn_likeness,
    "simulate": simulate,
    "curate": curate,
    "corpus": corpus,
    "train_assistant": train_assistant,
    "train_character": train_character,
    "interview": interview,
    "report": report,
}


def calibrated(settings: "SimulateSettings", user: "EngineSpec") -> "SimulateSettings":
    """The settings, with the bias that training measured for this UserGPT's decision to leave.

    A model on the Hub brings its own along; behind an endpoint nobody knows it, so state it then in
    `simulate.end_bias`.
    """
    if user.kind != "vllm":
        return settings
    named = user.adapter or user.model
    folder = Path(named)
    about = about_checkpoint(folder if folder.is_dir() else resolve_checkpoint(named))
    bias = sum_of(settings.end_bias, learned_bias(about))
    return settings.model_copy(update={"end_bias": bias})


_STATEMENTS = ("contamination", "memorisation", "mended")


def _facts(recipe: Recipe, metrics: Figures) -> Figures:
    """What made the corpus, for its card."""
    perplexity = metrics.get("user_model", {}).get("perplexity", {})
    figures = {
        "perplexity of UserGPT on held-out people, before training": perplexity.get("before"),
        "perplexity of UserGPT on held-out people, after training": perplexity.get("after"),
        "share of simulated conversations kept": metrics.get("curate", {}).get("kept_share"),
        "share of answers that the token limit broke off": _cut_share(metrics.get("simulate", {})),
    }
    return {
        "recipe": recipe.fingerprint(),
        "seed": recipe.seed,
        "models": {"user": recipe.models.user, "assistant": recipe.models.assistant},
        "versions": metrics.get("versions", {}),
        "funnel": metrics.get("curate", {}).get("funnel", []),
        **{name: metrics.get("curate", {}).get(name, {}) for name in _STATEMENTS},
        "figures": {label: value for label, value in figures.items() if value is not None},
    }


_COMPARED = 5_000
"""Conversations a side whose form the card compares; more would say the same more slowly."""


def _fidelity(run: RunFolder) -> Figures:
    """For the card: rows of fidelity.json where somebody measured it, else the form's; charts.

    Nothing where there are no held-out people.
    """
    from pipelines.charts import as_file, lengths
    from pipelines.fidelity_rows import fidelity_rows, surface_rows
    from usersim.files import read_json
    from usersim.surface import Shape, compare

    path = run.root / "fidelity.json"
    table = read_json(path) if path.exists() else {}
    rows = fidelity_rows(table) if isinstance(table, dict) else []
    kept = _first_conversations(sorted(run.curated.glob("part-*.parquet")))
    people = _first_conversations([run.people / "test.parquet"])
    if not kept or not people:
        return {"fidelity": rows} if rows else {}
    shapes = ([Shape.of(c) for c in kept], [Shape.of(c) for c in people])
    drawn = {turn: as_file(lengths(*shapes, turn)) for turn in ("first", "later")}
    return {"fidelity": rows or surface_rows(compare(kept, people)), "charts": drawn}


def _first_conversations(paths: Sequence[Path]) -> "list[Conversation]":
    from usersim.files import read_conversations

    found: list[Conversation] = []
    for path in paths:
        if len(found) < _COMPARED and path.exists():
            found += read_conversations(path)
    return found[:_COMPARED]


def _revisions(recipe: Recipe, run: RunFolder) -> dict[str, str]:
    """What simulation read, by content: the hash that a changed checkpoint would change.

    A model named on the Hub has its name; what stands here, or came with a package, a hash as well.
    """
    from pipelines.inputs import identified

    mark, assistant = run.mark(stage_named("simulate")), recipe.engines.assistant
    found = {name: known["content"] for name, known in ((mark and mark.inputs) or {}).items()}
    speaks = assistant.model or recipe.models.assistant
    used = {"UserGPT's base": recipe.models.user} if run.user_model.is_dir() else {}
    if assistant.kind == "vllm":
        used["assistant"] = speaks
    here = {
        role: resolve_checkpoint(name)
        for role, name in used.items()
        if name in EMBEDDED or Path(name).expanduser().is_dir()
    }
    return found | {role: known["content"] for role, known in identified(here).items()}


def _cut_share(talk: Figures) -> float | None:
    answers = sum(int(rounds) * number for rounds, number in talk.get("rounds", {}).items())
    return round(talk["truncated_answers"] / answers, 4) if answers else None


def check_ready(stage: Stage, recipe: Recipe, run: RunFolder) -> None:
    """Raise InputError when a stage that must be done before this one is not."""
    if stage.shows_all and not run.metrics():
        raise InputError(f"{run.root} has nothing to report on yet: `realchat run` makes something")
    for needed in recipe.after(stage):
        if not run.is_done(needed, recipe):
            raise InputError(
                f"{stage.verb} needs what {needed.verb} makes, and {run.root} has none: run "
                f"`realchat {needed.verb} --run {run.root}` first, or `realchat run` for all stages"
            )


def perform(
    stage: Stage,
    recipe: Recipe,
    run: RunFolder,
    work: Callable[[Recipe, RunFolder], Figures] | None = None,
) -> None:
    """Do one stage, and mark it done; `work` does it in another way than here in this process.

    Raises InputError without what the stage needs.
    """
    check_ready(stage, recipe, run)
    run.begin(stage, recipe)
    began = time.monotonic()
    figures = (work or WORK[stage.name])(recipe, run)
    # A stage that was resumed knows how long all its sittings took; the last one alone says little.
    seconds = max(time.monotonic() - began, float(figures.get("seconds", 0.0)))
    run.finish(stage, recipe, seconds, figures)
