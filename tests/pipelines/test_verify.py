"""A clean run is clean, and each fault planted in it is found and named."""

import shutil
import sqlite3

import pytest
from scripted_run import held
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.verify import SHOWN, report, verify
from usersim.conversation import rejection_schema
from usersim.errors import InputError, WorldError
from usersim.files import read_json, read_rows, write_json, write_table

LOOSE = {"opener_words": 1, "opener_threshold": 0.4, "opener_attempts": 1}
ALIKE = {"filters": {"languages": []}, "dedup": {"shingle_words": 1, "opener_threshold": 0.3}}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A run in which every step kept some and rejected some."""
    run = held(tmp_path_factory.mktemp("runs") / "clean", ALIKE, **LOOSE)
    figures = run.metrics()
    assert figures["simulate"]["rejected"] > 0
    assert 0 < figures["curate"]["kept"] < figures["curate"]["in"]
    return run


@pytest.fixture
def run(clean, tmp_path):
    """A copy of it to harm."""
    return RunFolder(shutil.copytree(clean.root, tmp_path / "run"))


def findings(run, manifest=True):
    """Problems by check; with `manifest` written anew, as whoever harms the run might do."""
    if manifest:
        run.write_manifest(Recipe.load(run.recipe_file))
    return {check.name: check.problems for check in verify(run.root) if check.problems}


def shard(run, number=0):
    return run.conversations / f"part-{number:05d}.parquet"


def rewrite(path, change, schema=None):
    """Change the list of a Parquet file's rows in place."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = read_rows(path)
    change(rows)
    write_table(path, pa.Table.from_pylist(rows, schema=schema or pq.read_schema(path)))


def journal(run, statement, number=0):
    with sqlite3.connect(run.journal / f"part-{number:05d}.sqlite") as db:
        assert db.execute(statement).rowcount > 0


def test_a_clean_run_is_clean_and_stays_as_it_is(run):
    before = {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file()}
    assert findings(run, manifest=False) == {}
    assert {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file()} == before
    done = CliRunner().invoke(app, ["verify", str(run.root)])
    assert done.exit_code == 0
    assert done.output.splitlines()[-1] == "clean"
    assert "30 of 30 planned conversations ended" in done.output


def test_a_changed_byte_in_a_shard(run):
    for path in (shard(run), next((run.corpus / "data").iterdir())):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        name = str(path.relative_to(run.root))
        assert any(name in problem for problem in findings(run, manifest=False)["manifest"])


def test_a_doubled_row(run):
    rewrite(shard(run), lambda rows: rows.append(rows[0]))
    found = findings(run)
    assert "stands there 2 times" in found["conversations"][0]
    assert "2 simulated" in found["curated"][0]


def test_a_missing_row(run):
    gone = []
    rewrite(shard(run, 1), lambda rows: gone.append(rows.pop(3)["id"]))
    found = findings(run)
    assert found["conversations"] == [f"part-00001.parquet: {gone[0]} is missing"]
    assert gone[0] in found["curated"][0]


def test_a_row_in_the_wrong_shard(run):
    moved = []
    rewrite(shard(run, 0), lambda rows: moved.append(rows.pop()))
    rewrite(shard(run, 1), lambda rows: rows.append(moved[0]))
    missing, stray = findings(run)["conversations"]
    assert missing.endswith("is missing")
    assert "not planned here" in stray


def test_a_half_turn(run):
    rewrite(shard(run), lambda rows: rows[0]["messages"].pop())
    half, differs = findings(run)["conversations"]
    assert "ends with a user turn that nobody answered" in half
    assert differs.endswith("is not what the journal says: messages")


def test_a_changed_word(run):
    def change(rows):
        rows[0]["messages"][-1]["content"] += " and more"

    rewrite(shard(run), change)
    found = findings(run)
    assert found["conversations"][0].endswith("is not what the journal says: messages")
    assert set(found) >= {"conversations"}


def test_roles_that_do_not_alternate(run):
    def change(rows):
        rows[0]["messages"][1]["role"] = "assistant"

    rewrite(shard(run), change)
    assert "user should" in findings(run)["conversations"][0]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM ending WHERE conversation = 4", "has not ended"),
        ("DELETE FROM attempt WHERE conversation = 4 AND position = 1", "has no turn 1"),
        ("UPDATE attempt SET text = '' WHERE conversation = 4 AND position = 3", "an empty turn 3"),
        ("UPDATE attempt SET role = 'user' WHERE conversation = 4 AND position = 1", "by the user"),
        ("UPDATE ending SET conversation = 99 WHERE conversation = 4", "is not planned here"),
        ("UPDATE owner SET value = 'other' WHERE name = 'recipe'", "recipe: other"),
    ],
)
def test_a_harmed_journal(run, statement, told):
    journal(run, statement)
    assert any(told in problem for problem in findings(run)["journals"])


@pytest.mark.parametrize("number", [0, 2])
def test_files_that_are_missing_or_too_many(run, number):
    shard(run, number).unlink()
    shutil.copy(shard(run, 1), shard(run, 7))
    (run.journal / f"part-{number:05d}.sqlite").unlink()
    found = findings(run)
    assert f"part-{number:05d}.sqlite is missing" in found["journals"]
    assert f"part-{number:05d}.parquet is missing" in found["conversations"]
    assert "part-00007.parquet belongs to no shard" in found["conversations"]


def test_files_that_the_manifest_does_not_know_or_that_are_gone(run):
    (run.corpus / "more.txt").write_text("more")
    (run.corpus / "README.md").unlink()
    told = findings(run, manifest=False)["manifest"]
    assert told == ["corpus/more.txt is not listed", "corpus/README.md is missing"]
    run.manifest_file.unlink()
    assert findings(run, manifest=False)["manifest"] == ["manifest.json is missing"]


def test_rejected_rows_that_are_missing_doubled_strange_or_published(run):
    path = run.rejected / "simulate.parquet"
    whole = path.read_bytes()
    published = read_rows(shard(run))[0]["id"]

    def told(change):
        path.write_bytes(whole)
        rewrite(path, change, rejection_schema())
        return " / ".join(findings(run)["rejected"])

    assert "its row is missing" in told(lambda rows: rows.pop())
    assert "is rejected 2 times" in told(lambda rows: rows.append(rows[0]))
    assert "not planned" in told(lambda rows: rows.append(rows[0] | {"id": "strange"}))
    assert "says otherwise" in told(lambda rows: rows.append(rows[0] | {"id": published}))
    assert "says: reason" in told(lambda rows: rows[0].update(reason="other"))


@pytest.mark.parametrize(
    ("stage", "key", "check"),
    [
        ("simulate", "conversations", "figures of simulate"),
        ("simulate", "rounds_mean", "figures of simulate"),
        ("curate", "kept", "funnel of curate"),
        ("corpus", "bytes", "corpus"),
        ("corpus", "rounds_mean", "corpus"),
    ],
)
def test_a_wrong_figure(run, stage, key, check):
    path = run.root / "stages" / f"{stage}.json"
    mark = read_json(path)
    mark["figures"][key] += 1
    write_json(path, mark)
    assert set(findings(run)) >= {"stages", check}  # the metrics still say what they said
    run.write_metrics()
    assert check in findings(run)


def test_a_funnel_that_loses_one(run):
    path = run.root / "stages" / "curate.json"
    mark = read_json(path)
    mark["figures"]["funnel"][-1]["in"] += 1
    write_json(path, mark)
    run.write_metrics()
    told = findings(run)["funnel of curate"]
    assert len(told) == 2  # it is neither what came in, nor kept and rejected together


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("an assistant: ", "an assistant: 1"),
        ("| test | ", "| test | 1"),
        ("| filters | ", "| filters | 1"),
        ("n<1K", "1K<n<10K"),
        ("split: test", "split: dev"),
        ("---\n", ""),
    ],
)
def test_a_wrong_count_in_the_card(run, old, new):
    card = run.corpus / "README.md"
    assert old in card.read_text()
    card.write_text(card.read_text().replace(old, new))
    assert set(findings(run)) == {"card"}
    run.write_manifest(Recipe.load(run.recipe_file))
    done = CliRunner().invoke(app, ["verify", str(run.root)])
    assert done.exit_code == 1
    assert "WRONG  card" in done.output


def test_rows_of_the_corpus_and_of_curation_that_are_gone_or_changed(run):
    data = next((run.corpus / "data").glob("train-*"))
    curated = run.curated / "part-00000.parquet"
    for path, check in ((data, "corpus"), (curated, "curated")):
        whole = path.read_bytes()
        rewrite(path, lambda rows: rows.pop())
        assert check in findings(run)
        rewrite(path, lambda rows: rows[0].update(stop_reason="error"))
        assert check in findings(run)
        path.write_bytes(whole)
    assert findings(run) == {}


def test_a_run_that_is_not_finished_is_not_clean(run):
    path = run.root / "stages" / "simulate.json"
    write_json(path, read_json(path) | {"state": "begun"})
    assert "is not finished: the same command goes on" in findings(run)["stages"][0]


def test_a_recipe_that_is_not_the_one_it_was_made_with(run):
    text = run.recipe_file.read_text()
    run.recipe_file.write_text(text.replace("max_rounds: 4", "max_rounds: 3"))
    found = findings(run)
    assert "simulate: fingerprint" in found["stages"][0]
    assert "recipe: " in found["journals"][0]


def test_what_is_no_run_or_busy_is_said(run, tmp_path):
    with pytest.raises(InputError, match="no run folder"):
        verify(tmp_path / "none")
    with run.locked(), pytest.raises(WorldError, match="another realchat works"):
        verify(run.root)


def test_many_findings_are_counted(run):
    rewrite(shard(run), lambda rows: rows.clear())
    text = report(verify(run.root))
    assert "more like these" in text
    assert text.count("is missing") == SHOWN
