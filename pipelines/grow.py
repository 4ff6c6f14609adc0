"""A finished simulation goes on: more conversations (`--extend`).

The old ones keep their ids, their turns and their files; what later stages made of them goes, since
it was made of fewer. Each step leaves the folder in a state from which the same command goes on.
"""

from collections.abc import Iterable
from pathlib import Path

from pipelines.recipe import Recipe, differences
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from usersim.errors import InputError

SIMULATE = stage_named("simulate")


def extend(run: RunFolder, conversations: int, overrides: Iterable[str] = ()) -> Recipe:
    """Make the folder's recipe one of `conversations` in all; returns it. Nothing is held yet.

    Asked again for the same number it changes nothing, so that the same command resumes.
    Raises InputError when there is no run, it has more already, or its conversations would change.
    """
    if not run.exists:
        raise InputError(f"{run.root} is no run yet, so nothing can be added: `realchat run` first")
    own = Recipe.load(run.recipe_file)
    recipe = _grown(Recipe.load(run.recipe_file, overrides), own, conversations, run.root)
    if recipe.simulate.conversations == own.simulate.conversations:
        return recipe
    with run.locked():
        run.adopt(own)  # refused when the folder is not what its recipe says
        run.reopen(SIMULATE)
        run.adopt(recipe)
    return recipe


def _grown(recipe: Recipe, own: Recipe, conversations: int, root: Path) -> Recipe:
    before = own.simulate.conversations
    if conversations < before:
        raise InputError(
            f"{root} has {before} conversations already: --extend takes how many there shall be in"
            f" all, so more than that, not {conversations}"
        )
    simulate = own.simulate if conversations == before else own.simulate.grown(conversations)
    kept = {key: getattr(simulate, key) for key in ("conversations", "extended_at", "shard_size")}
    changed = recipe.model_copy(update={"simulate": recipe.simulate.model_copy(update=kept)})
    if changed.identity(SIMULATE) != own.identity(SIMULATE):
        lines = differences(own.to_table(), changed.to_table())
        raise InputError(
            "\n".join(
                [
                    f"{root} would hold conversations of two recipes:",
                    *(f"  {line}" for line in lines),
                    "extend it without that change, or take another folder: --run",
                ]
            )
        )
    return changed
