"""What a character's training was worth: said only where an interval leaves zero out."""

import pytest

from pipelines.character_part import answers, headline, part, verdict
from pipelines.report import write_report
from pipelines.run_view import RunView
from usersim.files import write_json

MORE, LESS, SAME = (
    {"low": 0.1, "mean": 0.2, "high": 0.3},
    {"low": -0.3, "mean": -0.2, "high": -0.1},
    {"low": -0.1, "mean": 0.0, "high": 0.1},
)


def asked(fact=MORE, boundary=MORE, replies=MORE, ordinary=SAME):
    change = {
        "fact": {"right": fact, "margin": fact},
        "boundary": {"right": boundary, "margin": boundary},
    }
    return {
        "life": "Ann <b>Lee</b>",
        "probes": {"changes": {"prompted_to_trained": change}},
        "refusal_changes": {"prompted_to_trained": {"boundary": replies, "fact": ordinary}},
    }


@pytest.mark.parametrize(
    ("found", "said"), [(MORE, "more"), (LESS, "less"), (SAME, "no difference beyond chance")]
)
def test_a_difference_is_told_only_beyond_chance(found, said):
    assert verdict(found) == said


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (asked(), "Yes, on all 5 measures."),
        (asked(fact=SAME), "On 3 of 5 measures."),
        (asked(SAME, SAME, LESS), "That is not shown."),
        (asked(ordinary=MORE), "Yes, on all 5 measures. It also refuses ordinary questions more"),
        ({}, ""),
    ],
)
def test_the_headline_says_no_more_than_the_rows(figures, said):
    assert headline(answers(figures)).startswith(said)
    assert bool(said) == bool(headline(answers(figures)))


def test_the_report_shows_the_character_and_leads_to_its_page(tmp_path):
    assert part(RunView.of(tmp_path)) is None
    made = {"experiences": 9, "protective": 3, "scenes": {"covered": 4, "paragraphs": 4}}
    figures = asked()
    figures["probes"]["changes"]["unguarded_to_trained"] = figures["probes"]["changes"][
        "prompted_to_trained"
    ]
    write_json(
        tmp_path / "metrics.json", {"interview": figures, "character": {"experiences": made}}
    )
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<section id="character">' in page
    assert "Yes, on all 5 measures." in page
    assert 'href="character.html"' in page
    assert "9 experiences that cover 4" in page
    assert "What protection is worth" in page
    assert "<b>Lee</b>" not in page
