"""Raw and curated stand side by side, fidelity included."""

import pytest
from made_run import talks

from pipelines.before_after import before_after, markdown
from usersim.errors import InputError
from usersim.files import read_json, write_conversations, write_json


def test_both_sides_are_measured_and_shown(tmp_path):
    raw = talks("simulated", 60, 4, source="realchat")
    write_conversations(tmp_path / "people" / "test.parquet", talks("people", 80, 4))
    write_conversations(tmp_path / "conversations" / "part-00000.parquet", raw)
    write_conversations(tmp_path / "curated" / "part-00000.parquet", raw[:40])
    shares = {"before": {"conversations": 60, "duplicates": 0.25, "memorised": None},
              "after": {"conversations": 40, "duplicates": 0.0}}  # fmt: skip
    write_json(tmp_path / "metrics.json", {"curate": {"before_after": shares}})
    table = before_after(tmp_path)
    assert read_json(tmp_path / "before_after.json") == table
    assert 0.0 <= table["after"]["auc_first"] <= 1.0
    lines = markdown(table).splitlines()
    assert "| conversations | 60 | 40 |" in lines
    assert "| duplicates (user sides alike, Jaccard 0.5) | 25.0 % | 0.0 % |" in lines
    assert "| repeats training people | - | - |" in lines
    assert "the 80 people" in lines[-1]


def test_a_run_that_was_not_curated_is_told_how(tmp_path):
    write_json(tmp_path / "metrics.json", {})
    with pytest.raises(InputError, match="not curated yet"):
        before_after(tmp_path)
