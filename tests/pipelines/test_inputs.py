"""Edited sources and checkpoints are noticed, touched ones are not, and looking costs nothing."""

import os
import shutil
from pathlib import Path

import pytest
from scripted_run import go_on, held

from pipelines.inputs import SAMPLE_BYTES, SAMPLES, WHOLE_BYTES, changed, identified, inputs_of
from pipelines.recipe import Recipe
from pipelines.replay import replay
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from usersim.errors import InputError
from usersim.files import read_json, write_json

INGEST, SIMULATE = stage_named("ingest"), stage_named("simulate")


def later(path):
    """Give a file another time of change, as an edit or a copy does."""
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1_000_000))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "people.jsonl"
    path.write_text('{"a": 1}\n')
    return path


def recipe(source, **models):
    return Recipe.checked({"ingest": {"source": str(source)}, "models": models}, "test")


@pytest.fixture
def run(tmp_path, source):
    """A folder whose ingest is done."""
    run = RunFolder(tmp_path / "run")
    with run.locked():
        run.adopt(recipe(source))
        run.begin(INGEST, recipe(source))
        run.people.mkdir()
        run.finish(INGEST, recipe(source), 1.0, {})
    return run


def test_an_edited_source_is_refused_with_its_name(run, source):
    assert run.is_done(INGEST, recipe(source))
    source.write_text('{"a": 2}\n')
    later(source)
    assert not run.is_done(INGEST, recipe(source))
    with pytest.raises(InputError, match=r"ingest\.source: .*people\.jsonl has other content"):
        run.adopt(recipe(source))
    run.adopt(recipe(source), redo=INGEST)  # made anew, it goes on
    assert run.mark(INGEST) is None


def test_a_touched_moved_or_missing_source_is_the_same(run, source, tmp_path):
    later(source)
    assert run.is_done(INGEST, recipe(source))
    text = source.read_text()
    source.unlink()
    assert run.is_done(INGEST, recipe(source))  # nobody must keep the raw data
    source.write_text(text)
    assert run.is_done(INGEST, recipe(source))
    moved = shutil.move(run.root, tmp_path / "elsewhere")
    assert RunFolder(Path(moved)).is_done(INGEST, recipe(source))


def test_folders_of_earlier_versions_know_no_contents(run, source):
    path = run.root / "stages" / "ingest.json"
    table = read_json(path)
    del table["inputs"]
    write_json(path, table)
    source.write_text("other")
    assert run.is_done(INGEST, recipe(source))
    assert run.changed_inputs(INGEST, recipe(source)) == []


def test_what_is_known_is_not_read_again(source, monkeypatch):
    known = identified({"s": source})
    monkeypatch.setattr("pipelines.inputs._content", lambda path: pytest.fail("it was read"))
    assert identified({"s": source}, known) == known
    assert changed(known, {"s": source}) == []


def test_large_files_are_sampled_from_end_to_end(tmp_path):
    path = tmp_path / "model.safetensors"
    size = WHOLE_BYTES + 5 * SAMPLE_BYTES
    with path.open("wb") as file:
        file.truncate(size)
    seen = identified({"m": path})["m"]["content"]
    for place in (0, SAMPLE_BYTES // 2, size - 1, (size - SAMPLE_BYTES) * 7 // (SAMPLES - 1)):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\1")
        now = identified({"m": path})["m"]["content"]
        assert now != seen
        seen = now
    with path.open("ab") as file:
        file.write(b"\0")
    assert identified({"m": path})["m"]["content"] != seen


def test_which_inputs_a_stage_has(tmp_path, source, monkeypatch):
    checkpoint, user_model = tmp_path / "teacher", tmp_path / "user"
    for folder in (checkpoint, user_model):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    (likeness := tmp_path / "likeness.npz").write_bytes(b"arrays")
    (tmp_path / "sharegpt").mkdir()
    monkeypatch.chdir(tmp_path)
    given = recipe(source, assistant=str(checkpoint), user="somebody/on-the-hub")
    assert inputs_of(INGEST, given, user_model, likeness) == {"ingest.source": source}
    assert inputs_of(SIMULATE, given, user_model, likeness) == {
        "models.assistant": checkpoint,
        "the run's UserGPT": user_model,
    }
    choosing = Recipe.checked({"simulate": {"candidates": 4}}, "test")
    assert inputs_of(SIMULATE, choosing, user_model, likeness) == {
        "the run's UserGPT": user_model,
        "the run's likeness": likeness,
    }
    assert inputs_of(stage_named("train-user"), given, user_model, likeness) == {}
    assert inputs_of(INGEST, Recipe.checked({}, "test"), user_model, likeness) == {}


def test_a_checkpoint_that_changed_under_its_name(tmp_path):
    """Half-made conversations of two models are never mixed, and a replay names what changed."""
    checkpoint = tmp_path / "teacher"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    run = held(tmp_path / "run", conversations=3)
    table = read_json(run.root / "stages" / "simulate.json")
    (run.root / "stages" / "curate.json").unlink()
    own = Recipe.load(run.recipe_file, [f"models.assistant={checkpoint}"])
    inputs = identified(inputs_of(SIMULATE, own, run.user_model, run.likeness))
    marked = {"fingerprint": own.stage_fingerprint(SIMULATE), "inputs": inputs, "state": "begun"}
    write_json(run.root / "stages" / "simulate.json", table | marked)
    run.recipe_file.write_text(own.to_yaml())
    (checkpoint / "config.json").write_text('{"layers": 2}')
    with pytest.raises(InputError, match=r"models\.assistant: .* has other content"):
        go_on(run)
    done = replay(run.root, "0")
    assert done.verdict == "inputs changed"
    assert done.changed[0].startswith("models.assistant: ")


def test_files_in_lists_and_the_runs_to_deduplicate_against_are_inputs_too(tmp_path):
    benchmark, earlier = tmp_path / "own.jsonl", tmp_path / "january"
    (earlier / "curated").mkdir(parents=True)
    part, report = earlier / "curated" / "part-00000.parquet", earlier / "report.html"
    for path in (benchmark, part, report):
        path.write_text("a")
    chosen = {"decontamination": {"benchmarks": ["mt-bench", str(benchmark)]},
              "dedup": {"against": [str(earlier)]}}  # fmt: skip
    asked = Recipe.checked({"curate": chosen}, "test")
    paths = inputs_of(stage_named("curate"), asked, tmp_path / "none", tmp_path / "none")
    then = identified(paths)
    for path in (benchmark, part, report):  # the report is no conversation
        path.write_text("b")
        later(path)
    told = changed(then, paths)
    assert [line.partition(":")[0] for line in told] == [
        "curate.decontamination.benchmarks[1]",
        "curate.dedup.against[0]",
    ]
