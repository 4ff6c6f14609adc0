"""The stages of a character: what the recipe says, and where it goes in the run folder."""

from typing import Any

from assistant.characters.work import Place, interview_stage, train_stage
from pipelines.character_page import write_page
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from usersim.engines import EngineSpec
from usersim.files import read_conversations
from usersim.surface import later_turns, turn_statistics

Figures = dict[str, Any]


def train_character(recipe: Recipe, run: RunFolder) -> Figures:
    """The experiences, and the models that learned from them."""
    return train_stage(recipe.character, recipe.models.assistant, Place(run.root), recipe.seed)


def interview(recipe: Recipe, run: RunFolder) -> Figures:
    """Probes, interviews and judgements; writes `character.html`."""
    place = Place(run.root)
    base, life = recipe.models.assistant, recipe.character.life
    figures = interview_stage(recipe.interview, life, base, place, interviewer(recipe, run))
    figures["people_turns"] = people_turns(run)
    write_page(run.root / "character.html", run.metrics().get("character", {}), figures)
    return figures


def people_turns(run: RunFolder) -> Figures | None:
    """How held-out people's later turns look, beside an interviewer's; None without any."""
    held_out = run.people / "test.parquet"
    if not held_out.is_file():
        return None
    turns = later_turns(read_conversations(held_out))
    return turn_statistics(turns, len(turns))


def interviewer(recipe: Recipe, run: RunFolder) -> EngineSpec:
    """Who goes on asking: the run's UserGPT where there is one, else its base, prompted."""
    spec, own = recipe.user_engine(run.user_model, run.logs), recipe.engines.user
    if own.model or own.kind != "vllm" or run.user_model.is_dir():
        return spec.model_copy(update={"shared": False})  # nobody else is on this engine
    name = f"{recipe.models.user} prompted as a user"
    return EngineSpec(model=recipe.models.user, opens="user", name=name, log_dir=run.logs)
