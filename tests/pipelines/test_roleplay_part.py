"""The report's part about role-play: there when somebody was played, and never the page's end."""

import pytest
from scripted_run import recipe_of

from pipelines.report import write_report
from pipelines.roleplay_part import roleplay
from pipelines.run_folder import RunFolder
from pipelines.run_view import RunView
from pipelines.stage_table import stage_named
from pipelines.stages import perform
from usersim.files import write_json

CAST = {"personas": 4, "scenes_each": 3, "more_topics": ["<b>boats</b>"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Twelve sessions by a script."""
    folder = RunFolder(tmp_path_factory.mktemp("roleplay") / "run")
    recipe = recipe_of("run", conversations=12, cast=CAST)
    with folder.locked():
        folder.adopt(recipe)
        perform(stage_named("simulate"), recipe, folder)
    return folder


def test_the_cast_and_what_was_followed_are_told(run):
    told = roleplay(RunView.of(run.root))
    assert (told["people"], told["scenes"], told["sessions"]) == (4, 12, 12)
    assert told["followed"]["in_character"] == 1
    assert told["worth"] is None
    write_report(run.root)
    page = run.report.read_text(encoding="utf-8")
    assert '<section id="roleplay">' in page
    assert "4 characters in 12 scenes" in page
    assert "<b>boats</b>" not in page


def test_an_ablation_is_shown_where_it_was_made(run):
    figures = {"mean": 0.25, "low": 0.1, "high": 0.4}
    row = {"loss": figures, "difference": figures, "tokens": 9}
    write_json(
        run.root / "ablation.json", {"tested": 3, "variants": {"whole": row, "no scene": row}}
    )
    write_report(run.root)
    page = run.report.read_text(encoding="utf-8")
    assert "What the header is worth" in page
    assert "no scene" in page


def test_a_broken_cast_is_a_problem_and_not_the_end(run):
    path = run.conversations / "cast" / "personas.jsonl"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: len(whole) // 2], encoding="utf-8")
    view = RunView.of(run.root)
    assert roleplay(view) is None
    assert any("personas.jsonl" in problem for problem in view.problems)
    write_report(run.root)
    path.write_text(whole, encoding="utf-8")


def test_a_run_without_a_cast_has_no_such_part(tmp_path):
    assert roleplay(RunView.of(tmp_path)) is None
