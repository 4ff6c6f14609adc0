"""A difference is marked when it is more than chance, and chance alone marks hardly anything."""

import random

import pytest
from made_run import make_run, metrics, talks
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.compare import compare_runs, ratio_row, share_row, wilson
from pipelines.compare_page import difference, page, summary
from usersim.errors import InputError
from usersim.files import write_conversations, write_json


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one kind, and a third whose users talk once and shout."""
    root = tmp_path_factory.mktemp("runs")
    lineage = {"assistant_model": "m", "source": "realchat"}
    first, twin, other = (make_run(root / name) for name in ("first", "twin", "other"))
    write_conversations(twin / "conversations" / "part-00000.parquet",
                        talks("another draw", 150, 4, **lineage))  # fmt: skip
    for path in (other / "conversations").glob("*.parquet"):
        path.unlink()
    write_conversations(other / "conversations" / "part-00000.parquet",
                        talks("other", 240, 1, **lineage))  # fmt: skip
    changed = metrics()
    changed["curate"]["kept"], changed["curate"]["reasons"] = 120, {"role_confusion": 120}
    write_json(other / "metrics.json", changed)
    return first, twin, other


def test_another_draw_of_the_same_kind_differs_in_nothing_that_matters(runs):
    assert len(compare_runs(runs[0], runs[1]).matters) <= 1


def test_what_truly_differs_is_marked(runs):
    names = {row.name for row in compare_runs(runs[0], runs[2]).matters}
    assert {"rounds a conversation", "share kept"} <= names


def test_swapping_the_runs_turns_every_difference_around(runs):
    there, back = compare_runs(runs[0], runs[2]), compare_runs(runs[2], runs[0])
    assert {row.name for row in there.matters} == {row.name for row in back.matters}
    one, other = (
        {r.name: r for s in found.sections for r in s.rows if r.low is not None}
        for found in (there, back)
    )
    assert one
    for name, row in one.items():
        assert row.difference == pytest.approx(-other[name].difference)
        assert (row.low, row.high) == pytest.approx((-other[name].high, -other[name].low))


def test_known_intervals():
    """Newcombe 1998, table II (a), method 10: 56/70 less 48/80 is 0.0524 to 0.3339 at 95 %."""
    row = share_row("x", (48, 80), (56, 70), z=1.96)
    assert row.difference == pytest.approx(0.2)
    assert (row.low, row.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert share_row("x", (48, 80), (56, 70)).low < row.low
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_chance_alone_marks_about_one_row_in_a_hundred(seed):
    """Turns of one conversation are alike here, which an interval over turns would not know."""
    rng = random.Random(seed)

    def side():
        pairs = []
        for _ in range(60):
            rate, turns = rng.choice((0.1, 0.9)), rng.randint(1, 8)
            pairs.append((float(sum(rng.random() < rate for _ in range(turns))), float(turns)))
        return pairs

    marked = sum(ratio_row("x", side(), side()).matters for _ in range(300))
    assert marked <= 12


def test_the_page_needs_nothing_else_and_escapes_names(runs, tmp_path):
    text = page(compare_runs(runs[0], runs[2]))
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert "src=" not in text
    for row in compare_runs(runs[0], runs[2]).matters:
        assert difference(row) in text
    odd = make_run(tmp_path / "<b>odd")
    assert "<b>odd" not in page(compare_runs(odd, runs[0]))


def test_runs_that_have_hardly_begun_are_compared_as_far_as_they_go(runs, tmp_path):
    (tmp_path / "begun").mkdir()
    found = compare_runs(tmp_path / "begun", runs[0])
    assert found.matters == []
    assert "no difference" in summary(found)
    assert "no figures" in summary(compare_runs(tmp_path / "begun", tmp_path / "begun"))
    with pytest.raises(InputError, match="no run folder"):
        compare_runs(tmp_path / "nowhere", runs[0])


def test_the_command_prints_a_table_and_writes_the_page(runs, tmp_path):
    out = tmp_path / "compared.html"
    done = CliRunner().invoke(app, ["compare", str(runs[0]), str(runs[2]), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "rounds a conversation" in done.output
    assert out.read_text().startswith("<!doctype html>")


def test_the_page_lands_here_and_in_neither_run(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = [sorted(run.rglob("*")) for run in (runs[0], runs[2])]
    done = CliRunner().invoke(app, ["compare", str(runs[0]), str(runs[2])])
    page = f"compare-{runs[0].name}-{runs[2].name}.html"
    assert done.output.endswith(f"{page}\n")
    assert (tmp_path / page).exists()
    assert [sorted(run.rglob("*")) for run in (runs[0], runs[2])] == before


def test_fidelity_that_both_runs_have_is_shown(runs, tmp_path):
    sides = [make_run(tmp_path / name) for name in "ab"]
    for side, auc in zip(sides, (0.62, 0.91), strict=True):
        figure = {"value": auc, "low": auc - 0.03, "high": auc + 0.03, "floor": 0.55}
        named = {"point": "two_sample", "name": "fasttext, first turns", "unit": "auc"}
        write_json(side / "fidelity.json", {"summary": [named | figure]})
    rows = {row.name: row for row in compare_runs(*sides).matters}
    assert rows["two sample: fasttext, first turns"].difference == pytest.approx(0.29)
