"""New figures are drawn where they are, and the page is whole where they are not."""

import pytest
from made_run import make_run, metrics, stage, talks
from test_report import Page

from pipelines.report import write_report
from pipelines.report_sections import samples
from usersim.files import write_json, write_text

FIGURE = {
    "value": 0.62,
    "low": 0.57,
    "high": 0.66,
    "floor": 0.55,
    "floor_high": 0.58,
    "within": False,
}


LEARNED = {
    "first": {"people": 4000, "simulated": 989, "auc": 0.7312},
    "later": {"people": 3871, "simulated": 902, "auc": 0.64},
    "tokens": 107_321,
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A run with everything that other commands add."""
    root = make_run(tmp_path_factory.mktemp("runs") / "made", license="cc-by-4.0")
    table = metrics()
    spent = {"tokens": 3781, "seconds": 22.5}
    table["curate"] |= {
        "languages": {"en": 230, "de": 10},
        "mended": {"email": 4},
        "cost": {"in": {"tokens": 51234, "seconds": 303.0}, "dropped": spent,
                 "dropped_by_reason": {"role_confusion": spent}},
        "contamination": {"benchmarks": [{"name": "mt-bench", "questions": 80}], "ngram": 13,
                          "found": 3, "kept": 0, "conversations": 240},
        "memorisation": {
            "simulated": {"conversations": 240, "openers": 0.0125, "verbatim": 0.0, "longest": 17},
            "held_out_people": {"conversations": 300, "openers": 0.0333, "longest": 41}},
    }  # fmt: skip
    table["likeness"] = LEARNED
    table["simulate"] |= {"candidates_passed_over": 5012, "tokens_passed_over": 194_020}
    table["curate"]["funnel"][0]["cost"] = {"tokens": 2500, "seconds": 12.0}
    recipe = (
        root / "recipe.yaml"
    ).read_text() + "gate: {max_duplicates: 0.01, max_memorised: null}\n"
    write_text(root / "recipe.yaml", recipe + "corpus: {license: cc-by-4.0}\n")
    write_json(root / "metrics.json", table)
    write_json(root / "fidelity.json", {
        "summary": [
            {"point": "two_sample", "name": "fasttext, first turns", "unit": "auc"}
            | FIGURE | {"prompted": 0.94},
            {"point": "perplexity", "name": "all turns", "unit": "", "value": None},
            "broken",
        ],
        "left_out": {"conditions": "this checkpoint knows none"},
    })  # fmt: skip
    write_report(root)
    return Page((root / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "words",
    [
        "no, the gate fails",
        "2 of the 5 bounds of its gate do not hold",
        "duplicates ✗ 0.021 at most 0.01",
        "similar conversation 5",
        "en 96 %",
        "first turns 4,000 989 0.73",
        "later turns 3,871 902 0.64",
        "took 107,321 tokens, answers included.",
        "5,012 candidates of 194,020 tokens were passed over, beside",
        "email 4",
        "3 of 240 generated conversations held one of 80 questions of mt-bench; 0 of them are in",
        "begin as a training person did 1.2 % 3.3 %",
        "fasttext, first turns (auc) ↔ 0.62",
        "0.57 to 0.66",
        "at most 0.58",
        "conditions was left out: this checkpoint knows none",
        "each kept conversation 234",
        "role confusion 3,781",
    ],
)
def test_the_page_says(page, words):
    assert words in page.text


def test_samples_come_from_every_stratum():
    drawn = samples(talks("some", 60, 6))
    assert [name for name, _, _ in drawn] == [
        "one round",
        "two or three rounds",
        "four rounds and more",
    ]
    assert sum(total for _, total, _ in drawn) == 60
    assert all(len(chosen) == 2 for _, _, chosen in drawn)


def test_a_passed_gate_leaves_the_license_to_answer(tmp_path):
    root = make_run(tmp_path / "made", license="cc-by-4.0")
    table = metrics()
    table["corpus"]["license"] = "cc-by-4.0"
    table["curate"]["funnel"] = [stage("filters", 240, looping=21)]
    write_json(root / "metrics.json", table)
    write_report(root)
    text = Page((root / "report.html").read_text(encoding="utf-8")).text
    assert "yes, under cc-by-4.0" in text
    assert "all 3 bounds of its gate hold" in text
