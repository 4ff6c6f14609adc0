"""The gate opens for figures inside their bounds, and never for figures that are not there."""

import pytest
from pydantic import ValidationError
from small_run import CURATED, make_run
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.gate import Bound, GateSettings, at, checks, figures_for_gate, passage, report
from usersim.errors import InputError
from usersim.files import write_json

GOOD = {"curate": CURATED}


def failing(settings, figures):
    return [check.figure for check in checks(settings, figures) if not check.passed]


def curated(**after):
    return {"curate": CURATED | {"before_after": {"after": {"duplicates": 0, **after}}}}


def test_good_figures_pass_and_what_nobody_asked_for_is_told():
    found = checks(GateSettings(), GOOD)
    assert all(check.passed for check in found)
    notes = {check.figure: check.note for check in found}
    assert notes["contaminated"] == "nobody asked for it"
    assert report(found).endswith("every bound is kept")


def test_a_figure_outside_its_bound_fails():
    assert failing(GateSettings(), curated(personal_data=0.01)) == ["personal data"]
    assert failing(GateSettings(max_personal_data=0.02), curated(personal_data=0.01)) == []
    asked = curated(personal_data=0, contaminated=0.1)
    asked["curate"]["contamination"] = {"benchmarks": []}
    assert failing(GateSettings(), asked) == ["contaminated"]


def test_a_figure_that_is_not_there_fails():
    assert "kept share" in failing(GateSettings(), {})
    further = GateSettings(bounds={"fidelity.two_sample.first.linear.auc": Bound(max=0.8)})
    assert failing(further, GOOD) == ["fidelity.two_sample.first.linear.auc"]
    near = GOOD | {"fidelity": {"two_sample": {"first": {"linear": {"auc": 0.7}}}}}
    assert failing(further, near) == []
    assert failing(further, GOOD | {"fidelity": {"two_sample": None}}) != []


def test_a_bound_says_something():
    with pytest.raises(ValidationError, match="needs `min`, `max` or both"):
        Bound()
    assert str(Bound(min=0.2, max=0.9)) == "at least 0.2, at most 0.9"
    assert not Bound(min=0.2).holds(0.1)


def test_fidelity_is_read_from_beside_the_metrics(tmp_path):
    run = make_run(tmp_path / "small")
    write_json(run.root / "fidelity.json", {"summary": []})
    assert at(figures_for_gate(run.root), "fidelity.summary") == []
    with pytest.raises(InputError, match="no figures yet"):
        figures_for_gate(tmp_path)


def test_a_closed_gate_needs_a_reason_that_is_recorded():
    found = checks(GateSettings(), curated(personal_data=0.5))
    with pytest.raises(InputError, match="personal data"):
        passage(found, None)
    record = passage(found, "these addresses are fictional, see the card")
    assert record["passed"] is False
    assert record["overridden"].startswith("these addresses")
    assert "overridden" not in passage(checks(GateSettings(), GOOD), "not needed at all")


def test_the_command_tells_by_its_exit_code(tmp_path):
    run = make_run(tmp_path / "small")
    ask = ["gate", str(run.root)]
    assert CliRunner().invoke(app, ask).exit_code == 0
    write_json(run.metrics_file, run.metrics() | curated(personal_data=0.5))
    done = CliRunner().invoke(app, ask)
    assert done.exit_code == 1
    assert "FAIL  personal data" in done.stdout
    assert CliRunner().invoke(app, ["gate", str(tmp_path / "none")]).exit_code == 2
