"""A finished simulation goes on: with more conversations (`--extend`), or with failed ones again.

The others keep their ids and their turns; what later stages made of them goes, since it was made
without those. Each step leaves the folder in a state from which the same command goes on.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from pipelines.nested import differences, part_of, yaml_inline
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from usersim.audit import ReadJournal
from usersim.errors import InputError
from usersim.journal import Journal, sole_owner
from usersim.plan import Agenda

SIMULATE = stage_named("simulate")


def extend(run: RunFolder, conversations: int, overrides: Iterable[str] = ()) -> Recipe:
    """Make the folder's recipe one of `conversations` in all; returns it. Nothing is held yet.

    The folder has adopted the overrides then. Asked again for the same number it does nothing more,
    so that the same command resumes. Raises InputError when there is no run, it has more already,
    its conversations would change, or an override speaks of their number or files.
    """
    if not run.exists:
        raise InputError(f"{run.root} is no run yet, so nothing can be added: `realchat run` first")
    own = Recipe.load(run.recipe_file)
    recipe = _grown(Recipe.load(run.recipe_file, overrides), own, conversations, run.root)
    with run.locked():
        if recipe.simulate.conversations > own.simulate.conversations:
            run.adopt(own)  # refused when the folder is not what its recipe says
            run.reopen(SIMULATE, own, recipe)
        run.adopt(recipe)
    return recipe


def retry(run: RunFolder, reason: str) -> int:
    """Put aside the conversations that ended for `reason`; returns how many. None is held yet.

    A reason is a stop reason, or what a rejected row gives. They keep their ids and get other
    sampling seeds; their turns stay in the journal, out of the way.
    Raises InputError when there is no run, or no such conversation, unless a retry was cut off.
    """
    if not run.exists:
        raise InputError(f"{run.root} is no run yet, so nothing can be tried again")
    recipe = Recipe.load(run.recipe_file)
    with run.locked(), sole_owner(run.journal):
        run.adopt(recipe)
        agenda = Agenda.of(recipe.simulate, recipe.identity(SIMULATE), recipe.seed, run.root)
        endings = {shard: dict(_endings(shard.journal(run.root))) for shard in agenda.shards()}
        found = {
            shard: [index for index, reasons in ended.items() if reason in reasons]
            for shard, ended in endings.items()
        }
        number = sum(map(len, found.values()))
        if number:
            run.reopen(SIMULATE, recipe)
        elif run.is_done(SIMULATE, recipe) or not any(
            _was_retried(shard.journal(run.root)) for shard in endings
        ):
            raise InputError(_none_such(run, reason, endings.values()))
        for shard, indices in found.items():
            if indices:
                # In this order: a shard without its data file is published again from its journal.
                shard.data(run.root).unlink(missing_ok=True)
                with closing(Journal(shard.journal(run.root), agenda.owner(shard))) as journal:
                    journal.claim()
                    journal.retire(indices)
    return number


def _endings(path: Path) -> Iterator[tuple[int, set[str]]]:
    """Why each conversation of a journal ended, by its index."""
    if not path.is_file():
        return
    try:
        with closing(ReadJournal(path)) as journal:
            for index, ending in journal.endings().items():
                yield index, {ending.stop_reason, ending.reason} - {""}
    except sqlite3.Error as error:
        raise InputError(f"cannot read {path}: {error}; `realchat verify` says more") from error


def _was_retried(path: Path) -> bool:
    """Whether conversations of a journal were put aside, to be held again."""
    if not path.is_file():
        return False
    with closing(ReadJournal(path)) as journal:
        return bool(journal.retries())


def _none_such(run: RunFolder, reason: str, endings: Iterable[dict[int, set[str]]]) -> str:
    counts = Counter(name for shard in endings for names in shard.values() for name in names)
    known = ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none yet"
    return f"no conversation of {run.root} ended for {reason!r}; the reasons there are: {known}"


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
    _refuse_dropped(recipe, own, changed, conversations)
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


def _refuse_dropped(asked: Recipe, own: Recipe, grown: Recipe, conversations: int) -> None:
    said, *meant = (recipe.to_table() for recipe in (asked, own, grown))
    dropped = [
        f"{key}={yaml_inline(part_of(said, key))}"
        for key in SIMULATE.amount
        if all(part_of(said, key) != part_of(table, key) for table in meant)
    ]
    if dropped:
        raise InputError(
            f"a run that grows keeps its files, and --extend {conversations} says how many"
            f" conversations there shall be: leave out {' '.join(dropped)}"
        )
