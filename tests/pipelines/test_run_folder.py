import errno
import hashlib
import json
import os

import pytest

from pipelines.recipe import DEFAULT, Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import STAGES, stage_named
from usersim.errors import InputError, WorldError

INGEST, TRAIN_USER, SIMULATE, CURATE = map(
    stage_named, ("ingest", "train_user", "simulate", "curate")
)
REPORT = stage_named("report")


@pytest.fixture
def recipe():
    return Recipe.load(DEFAULT)


@pytest.fixture
def run(tmp_path, recipe):
    run = RunFolder(tmp_path / "run")
    with run.locked():
        run.adopt(recipe)
    return run


def do(run, stage, recipe, figures=None):
    """A stage as far as the folder is concerned: begun, outputs made, marked."""
    run.begin(stage, recipe)
    for output in stage.outputs:
        path = run.root / output
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("made")
        else:
            path.mkdir(parents=True, exist_ok=True)
            (path / "file").write_text("made")
    run.finish(stage, recipe, 1.5, figures or {"rows": 3})


def test_a_finished_stage_is_done_and_its_figures_are_in_the_metrics(run, recipe):
    assert not run.is_done(INGEST, recipe)
    do(run, INGEST, recipe, {"rows": 3, "share": float("nan")})
    assert run.is_done(INGEST, recipe)
    metrics = run.metrics()
    assert metrics["ingest"] == {"rows": 3, "share": None}
    assert metrics["timing"] == {"ingest_s": 1.5}
    assert metrics["machine"]["cores"] >= 1
    assert metrics["versions"]["python"]


def test_a_stage_that_only_began_is_not_done(run, recipe):
    run.begin(INGEST, recipe)
    run.people.mkdir()
    assert not run.is_done(INGEST, recipe)


def test_a_stage_whose_output_was_removed_is_not_done(run, recipe):
    do(run, INGEST, recipe)
    (run.people / "file").unlink()
    run.people.rmdir()
    assert not run.is_done(INGEST, recipe)


def test_what_another_version_made_is_not_refused_with_its_own_recipe_as_the_remedy(run, recipe):
    do(run, INGEST, recipe)
    mark = run.root / "stages" / "ingest.json"
    mark.write_text(mark.read_text().replace(recipe.stage_fingerprint(INGEST), "0" * 16))
    with pytest.raises(InputError, match="another version of realchat") as refused, run.locked():
        run.adopt(recipe)
    assert "giving only --run" not in str(refused.value)
    assert "--redo ingest" in str(refused.value)


def test_an_interrupted_stage_begins_clean_unless_it_resumes(run, recipe):
    for stage, output in [(INGEST, "people"), (SIMULATE, "journal")]:
        run.begin(stage, recipe)
        (run.root / output).mkdir()
        (run.root / output / "half").write_text("")
        run.begin(stage, recipe)
        assert (run.root / output / "half").exists() == stage.resumes


def test_another_recipe_is_refused_with_a_readable_difference(run, recipe):
    do(run, INGEST, recipe)
    do(run, TRAIN_USER, recipe)
    other = Recipe.load(DEFAULT, ["models.user=other"])
    with pytest.raises(InputError) as caught:
        run.adopt(other)
    message = str(caught.value)
    assert "models.user: smollm2-135m-instruct -> other" in message
    assert "train_user" in message
    assert "--redo train-user" in message
    assert "--run" in message
    assert run.recipe() == recipe.to_table()


def test_more_conversations_are_told_how_to_be_added(run, recipe):
    do(run, SIMULATE, recipe)
    for changes, grows in (
        (["simulate.conversations=900", "simulate.concurrency=3", "name=other"], True),
        (["simulate.conversations=9"], False),
        (["simulate.conversations=900", "simulate.max_rounds=2"], False),
    ):
        with pytest.raises(InputError) as caught:
            run.adopt(Recipe.load(DEFAULT, changes))
        message = str(caught.value)
        assert (f"`realchat simulate --run {run.root} --extend 900`" in message) == grows
        assert "simulate.conversations: 2" in message
        assert "concurrency" not in message
        assert "name: " not in message
        assert "--redo simulate" in message


def test_begun_work_that_would_be_resumed_binds_the_folder(run, recipe):
    other = Recipe.load(DEFAULT, ["simulate.conversations=1"])
    run.begin(SIMULATE, recipe)
    run.adopt(other)  # nothing was made yet
    run.journal.mkdir()
    run.begin(SIMULATE, recipe)
    with pytest.raises(InputError, match=r"simulate\.conversations: 1 -> 3"):
        run.adopt(Recipe.load(DEFAULT, ["simulate.conversations=3"]))


def test_a_stage_that_failed_does_not_bind_the_folder(run, recipe):
    run.begin(INGEST, recipe)
    run.people.mkdir()
    mended = Recipe.load(DEFAULT, ["ingest.limit=5"])
    run.adopt(mended)
    run.begin(INGEST, mended)
    assert not run.people.exists()


def test_settings_of_stages_not_begun_may_change(run, recipe):
    do(run, INGEST, recipe)
    other = Recipe.load(DEFAULT, ["curate.filters.max_refusals=9"])
    run.adopt(other)
    assert run.recipe() == other.to_table()
    assert run.is_done(INGEST, other)


def test_redo_clears_the_stage_and_what_was_made_of_it(run, recipe):
    for stage in STAGES:
        do(run, stage, recipe)
    run.adopt(Recipe.load(DEFAULT, ["curate.filters.max_refusals=9"]), redo=CURATE)
    assert run.is_done(SIMULATE, recipe)
    assert not run.curated.exists()
    assert not run.corpus.exists()
    assert (run.rejected / "simulate.parquet").exists()
    assert run.mark(CURATE) is None


def test_fidelity_goes_with_the_conversations_that_it_was_measured_of(run, recipe):
    measured = run.root / "fidelity.json"
    measured.write_text("{}")
    run.adopt(recipe, redo=CURATE)
    assert measured.exists(), "curation changes nothing of it"
    run.adopt(recipe, redo=stage_named("train_user"))
    assert not measured.exists()


def test_what_was_measured_goes_when_the_run_goes_on(run, recipe):
    """`--extend` and `retry`: it was measured of fewer conversations, or of other ones."""
    for stage in (INGEST, TRAIN_USER, SIMULATE, CURATE):
        do(run, stage, recipe)
    for name in ("fidelity.json", "fidelity.html", "ablation.json"):
        (run.root / name).write_text("{}")
    run.reopen(SIMULATE, recipe)
    assert not [p.name for p in run.root.glob("*.*") if p.stem in ("fidelity", "ablation")]
    assert run.conversations.is_dir()


@pytest.mark.parametrize("name", ["fidelity.json", "ablation.json"])
def test_the_report_is_stale_when_something_was_measured_since(run, recipe, name):
    do(run, INGEST, recipe)
    do(run, REPORT, recipe)
    assert run.is_done(REPORT, recipe)
    (run.root / name).write_text("{}")
    assert not run.is_done(REPORT, recipe)
    do(run, REPORT, recipe)
    assert run.is_done(REPORT, recipe)


def test_redo_does_not_excuse_a_change_further_up(run, recipe):
    do(run, INGEST, recipe)
    do(run, SIMULATE, recipe)
    with pytest.raises(InputError, match="simulate"):
        run.adopt(Recipe.load(DEFAULT, ["simulate.conversations=1"]), redo=CURATE)


def test_the_report_is_stale_when_anything_else_was_done_since(run, recipe):
    do(run, INGEST, recipe)
    do(run, REPORT, recipe)
    assert run.is_done(REPORT, recipe)
    do(run, TRAIN_USER, recipe)
    assert not run.is_done(REPORT, recipe)
    run.adopt(recipe)


def test_a_disk_that_knows_no_locks_is_no_other_realchat(run, monkeypatch):
    def flock(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(WorldError, match="cannot be locked"), run.locked():
        pass


def test_two_processes_do_not_share_a_folder(run):
    with run.locked(), pytest.raises(WorldError, match=f"process {os.getpid()}"), run.locked():
        pass


def test_a_child_that_inherits_the_lock_keeps_it(run):
    with run.locked() as handle:
        kept = os.dup(handle)
    try:
        with pytest.raises(WorldError), run.locked():
            pass
    finally:
        os.close(kept)
    with run.locked():
        pass


def test_what_cannot_be_a_run_folder_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="is a file"), RunFolder(file).locked():
        pass
    with pytest.raises(InputError, match="no run folder"), RunFolder(tmp_path).locked():
        pass
    with pytest.raises(WorldError, match="cannot write"), RunFolder(file / "below").locked():
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_the_manifest_lists_published_files_with_their_hashes(run, recipe):
    do(run, SIMULATE, recipe)
    run.write_manifest(recipe)
    manifest = json.loads(run.manifest_file.read_text())
    assert manifest["files"] == [
        {
            "path": "conversations/file",
            "bytes": 4,
            "sha256": hashlib.sha256(b"made").hexdigest(),
        }
    ]
    assert manifest["recipe"] == recipe.fingerprint()
    assert manifest["stages"] == {"simulate": recipe.stage_fingerprint(SIMULATE)}


def test_models_of_the_run_are_found_by_their_part(run, recipe):
    with pytest.raises(InputError, match="no model 'user' yet"):
        run.model_named("user")
    do(run, TRAIN_USER, recipe)
    assert run.model_named("user") == str(run.user_model)
    assert run.model_named("some/model") == "some/model"
