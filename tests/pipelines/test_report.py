"""The report says what metrics.json says, needs nothing but itself, and runs nobody's words."""

import html
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest
from made_run import make_run, metrics, stage, talks

from pipelines import findings
from pipelines.report import distance, figure, percent, write_report
from pipelines.run_view import RunView
from usersim.conversation import Message, Rejection
from usersim.errors import InputError
from usersim.files import (
    read_json,
    write_conversations,
    write_json,
    write_rejections,
    write_table,
    write_text,
)

XSS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'><iframe src=javascript:alert(1)>",
    "<a href=\"javascript:alert(1)\">click</a>",
    "</div></style><style>@import 'https://evil.example/x.css';</style>",
    "{{ 7 * 7 }}{% for x in range(9) %}x{% endfor %}",
    "<!-- --><base href=https://evil.example/>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<ScRiPt\n>alert(1)</sCrIpT\n>",
    "]]><![CDATA[<script>alert(1)</script>",
    "\u202e<script>\u202c \ufeff<script>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
]  # fmt: skip


NONE = figure(None)


class Page(HTMLParser):
    """The tags, attributes and visible text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.pieces: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        return " ".join(" ".join(self.pieces).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A whole run with its report."""
    root = make_run(tmp_path_factory.mktemp("runs") / "made")
    write_report(root)
    return root


@pytest.fixture(scope="module")
def page(run) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def small(tmp_path) -> Path:
    """A run with a few conversations, quick to change and render."""
    lineage = {"assistant_model": "m", "source": "realchat"}
    simulated = talks("simulated", 8, 4, **lineage)
    write_json(tmp_path / "metrics.json", metrics())
    write_conversations(tmp_path / "people" / "test.parquet", talks("people", 9, 9))
    write_conversations(tmp_path / "conversations" / "part-00000.parquet", simulated)
    write_conversations(tmp_path / "curated" / "part-00000.parquet", simulated[:6])
    return tmp_path


def rendered(root: Path) -> Page:
    """The page of a run, read back."""
    write_report(root)
    return Page((root / "report.html").read_text(encoding="utf-8"))


def test_it_is_one_small_file_that_loads_nothing(run, page) -> None:
    source = (run / "report.html").read_text(encoding="utf-8")
    assert len(source.encode()) < 5_000_000
    loading = {"script", "link", "img", "iframe", "object", "embed", "base", "video", "audio"}
    assert not set(page.tags) & loading
    refers = [v for _, key, v in page.attributes if key in {"src", "href", "xlink:href", "action"}]
    assert refers
    assert all(value.startswith("#") for value in refers)
    assert set(re.findall(r"url\((.)", source)) <= {"#"}
    assert "@import" not in source
    assert "default-src 'none'" in source


def test_links_inside_the_page_lead_somewhere(page) -> None:
    ids = {value for _, key, value in page.attributes if key == "id"}
    assert {v[1:] for _, key, v in page.attributes if key == "href"} <= ids


def test_the_figures_are_those_of_metrics(run, page) -> None:
    told = read_json(run / "metrics.json")
    perplexity, simulate = told["user_model"]["perplexity"], told["simulate"]
    expected = [
        f"{told['curate']['kept']} kept of {simulate['conversations']}",
        f"{simulate['rounds_mean']:.3g} rounds a conversation on average",
        f"{perplexity['before']:.3g} before training, {perplexity['after']:.3g} after",
        f"better by {abs(perplexity['change']):.0%}".replace("%", "\N{NO-BREAK SPACE}%"),
        "worse by 0.049 nats per token",
        "better by 0.318 nats per token",
        "9 min 32 s",
        f"{simulate['cache_hit_rate']:.0%}".replace("%", "\N{NO-BREAK SPACE}%"),
    ]
    text = " ".join(page.text.replace("\N{NO-BREAK SPACE}", " ").split())
    for words in expected:
        assert words.replace("\N{NO-BREAK SPACE}", " ") in text
    for stages in (told["ingest"]["funnel"], told["curate"]["funnel"]):
        for counts in stages:
            for reason, count in counts["reasons"].items():
                assert f"{reason.replace('_', ' ')} {count:,}" in text
    for reason, count in simulate["stop_reasons"].items():
        assert reason.replace("_", " ") in text
        assert str(count) in page.pieces


def test_other_figures_make_another_page(small) -> None:
    told = metrics()
    told["user_model"]["perplexity"]["detail"]["after"]["all"] = 31.77
    told["curate"]["kept"] = 7_654_321
    write_json(small / "metrics.json", told)
    text = rendered(small).text
    assert "31.8 after" in text
    assert "(worse by" in text
    assert "7,654,321 kept" in text


def test_the_stage_returns_the_surface_it_shows(small) -> None:
    figures = write_report(small)
    json.dumps(figures, allow_nan=False)
    value = figures["surface"]["distance"]["words_first"]["value"]
    assert f"{distance(value)} words from people" in rendered(small).text
    assert figures["surface_kept"]["simulated"]["conversations"] == 6
    assert figures["bytes"] == (small / "report.html").stat().st_size


def test_words_of_models_and_people_are_only_text(small) -> None:
    put_everywhere(small, XSS)
    found = rendered(small)
    assert set(found.tags) <= OUR_TAGS
    assert not [a for a in found.attributes if a[1].startswith("on")]
    assert not [a for a in found.attributes if a[1] in {"src", "href"} and a[2][:1] != "#"]
    for evil in XSS:
        # as a message, a reason, a model's name, a license, a stop reason, a version ...
        assert found.text.count(" ".join(evil.split())) >= 6, evil


def put_everywhere(root: Path, evils: list[str]) -> None:
    """A run in which every text that anybody could have written is one of these."""
    everything = " ".join(evils)
    base = talks("evil", len(evils), 1, source="s", assistant_model=everything, license=everything)
    made = [
        replace(
            c,
            id=f"{evil}{i}",
            messages=(Message("system", evil), Message("user", evil), Message("assistant", evil)),
        )
        for i, (c, evil) in enumerate(zip(base, evils, strict=True))
    ]
    for place in ("conversations/part-00000", "curated/part-00000", "people/test"):
        write_conversations(root / f"{place}.parquet", made)
    lost = [Rejection(everything, everything, everything, everything, everything)]
    gone = replace(made[0], messages=(Message("user", everything),))
    lost.append(Rejection.of(gone, "s", "echo"))
    write_rejections(root / "rejected" / "curate.parquet", lost)
    told = metrics()
    told["user_model"]["base"] = told["assistant"]["base"] = everything
    told["simulate"]["stop_reasons"] = dict.fromkeys(evils, 3)
    told["simulate"]["guards"] = dict.fromkeys(evils, 3)
    told["curate"]["funnel"] = [stage(everything, 99, **dict.fromkeys(evils, 1))]
    told["versions"] = told["machine"] = {evil: evil for evil in evils}
    write_json(root / "metrics.json", told)
    write_text(root / "recipe.yaml", f"models: {json.dumps(everything)}\n")


# fmt: off
OUR_TAGS = {
    "html", "head", "meta", "title", "style", "body", "nav", "a", "h1", "h2", "h3", "p", "div",
    "span", "small", "strong", "code", "pre", "br", "i", "section", "article", "header", "table",
    "thead", "tbody", "tr", "th", "td", "ul", "li", "dl", "dt", "dd", "figure", "figcaption",
    "details", "summary", "svg", "g", "path", "line", "rect", "text", "defs", "clippath",
}
# fmt: on


STAGES = {
    "simulate": ["simulate", "conversations", "curate", "curated", "rejected", "corpus"],
    "train-user": ["user_model"],
    "train-assistant": ["assistant"],
    "ingest": ["ingest", "people"],
    "curate": ["curate", "curated", "rejected"],
}


@pytest.mark.parametrize("verb", STAGES)
def test_what_is_missing_says_which_command_makes_it(small, verb) -> None:
    told = metrics()
    for name in STAGES[verb]:
        told.pop(name, None)
        shutil.rmtree(small / name, ignore_errors=True)
    write_json(small / "metrics.json", told)
    text = rendered(small).text
    assert f"realchat {verb}" in text


def test_an_empty_folder_makes_a_page_that_says_what_to_run(tmp_path) -> None:
    text = rendered(tmp_path).text
    for verb in ("ingest", "train-user", "simulate", "train-assistant"):
        assert f"realchat {verb}" in text


def test_no_folder_is_an_input_error(tmp_path) -> None:
    with pytest.raises(InputError, match="no run folder"):
        write_report(tmp_path / "nowhere")


JUNK = [None, 3, -1.5, "text", [], [1], {}, {"x": None}, True]


@pytest.mark.parametrize("junk", JUNK)
def test_figures_of_another_form_are_left_out_without_an_error(small, junk) -> None:
    shutil.rmtree(small / "conversations")  # quicker without the comparison
    write_json(small / "metrics.json", dict.fromkeys(metrics(), junk))
    assert "realchat simulate" in rendered(small).text
    write_json(small / "metrics.json", leaves_replaced(metrics(), junk))
    rendered(small)


def leaves_replaced(value, junk):
    """The same tables with every single value replaced."""
    if isinstance(value, dict):
        return {key: leaves_replaced(item, junk) for key, item in value.items()}
    return junk


def test_unreadable_files_are_told_and_the_rest_is_shown(small) -> None:
    (small / "people" / "test.parquet").write_bytes(b"PAR1 but not really")
    (small / "recipe.yaml").write_text("a: [", encoding="utf-8")
    text = rendered(small).text
    assert "test.parquet could not be read" in text
    assert "219 kept of 240" in text


def test_half_a_surrogate_pair_in_a_record_does_not_stop_the_page(small) -> None:
    record = '{"messages": [{"role": "user", "content": "broken \\ud83d here"}]}'
    lost = [Rejection("x", "filters", "echo", "", record)]
    write_rejections(small / "rejected" / "curate.parquet", lost)
    assert "broken ? here" in rendered(small).text


def test_what_must_not_be_published_stands_on_no_page_that_is(small) -> None:
    """As in the subset `rejected`: a reason of its own, a finding beside, a person's mark."""
    made = talks("gone", 4, 1, source="realchat")
    secret, plain = "a neighbour called Ada", "that only echoes"
    said = [replace(c, messages=(Message("user", f"{secret} {c.id}"),)) for c in made[:3]]
    reasons = ["memorised", "refusal", "marked_bad"]
    lost = [Rejection.of(c, "filters", r, secret) for c, r in zip(said, reasons, strict=True)]
    harmless = replace(made[3], messages=(Message("user", plain),))
    lost.append(Rejection.of(harmless, "filters", "echo"))
    write_rejections(small / "rejected" / "curate.parquet", lost)
    beside = ["memorised", "slur", "marked_bad"]
    verdicts = [
        {"id": c.id, "failed": [r], "dropped_for": r} for c, r in zip(said, beside, strict=True)
    ]
    schema = pa.schema([("id", pa.string()), ("failed", pa.list_(pa.string())),
                        ("dropped_for", pa.string())])  # fmt: skip
    folder = small / "curated" / "verdicts"
    write_table(folder / "verdicts.parquet", pa.Table.from_pylist(verdicts, schema))
    raw = replace(made[0], id="raw", messages=(Message("user", f"I am {secret}"),))
    write_conversations(small / "conversations" / "part-00000.parquet", [raw])  # not as it is kept
    text = rendered(small).text
    assert plain in text
    assert secret not in text
    assert text.count("Its text is left out") == 3


def test_a_page_of_the_first_conversations_only_says_so(small, monkeypatch) -> None:
    write_report(small)
    whole = (small / "report.html").read_text()
    assert "turns of users" in whole
    monkeypatch.setattr("pipelines.run_view.READ_AT_MOST", 5)
    write_report(small)
    cut = (small / "report.html").read_text()
    assert "in the first 5 conversations" in cut
    assert "in the first" not in whole
    assert "turns of users" not in cut, "which are those of five conversations"


def test_long_talks_are_cut_and_say_how_much_is_left_out(small) -> None:
    pairs = [(Message("user", f"u{i} " + "w" * 2000), Message("assistant", "a")) for i in range(20)]
    messages = tuple(m for pair in pairs for m in pair)
    long = [replace(c, messages=messages) for c in talks("long", 3, 1, source="s")]
    write_conversations(small / "curated" / "part-00000.parquet", long)
    text = rendered(small).text
    assert "28 more messages" in text
    assert "1,103 more characters" in text


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.03, 0.06, "worse by"), (-0.06, -0.03, "better by"), (-0.01, 0.1, "no clear change")],
)
def test_loss_is_said_plainly(tmp_path, low, high, words) -> None:
    difference = {"mean": (low + high) / 2, "low": low, "high": high}
    view = RunView(tmp_path, {"assistant": {"loss": {"real": {"difference": difference}}}})
    assert findings.loss_sentence(view, "real").startswith(words)


@pytest.mark.parametrize(
    ("license", "answer"),
    [("cc-by-4.0", "yes, under cc-by-4.0"), ("", "not as it is"), ("cc-by-nd-4.0", "not as it is")],
)
def test_may_i_publish_it_is_answered_from_the_rows_licenses(tmp_path, license, answer) -> None:
    view = RunView(tmp_path, kept=talks("kept", 3, 2, source="realchat", license=license))
    assert findings.may_publish(view)[0] == answer


def test_likeness_counts_the_measures_within_peoples_own_range() -> None:
    near = {"value": 1.0, "floor": 1.0, "floor_high": 2.0, "within": True}
    far = {"value": 9.0, "floor": 1.5, "floor_high": 2.0, "within": False}
    surface = {"distance": {"words_first": near, "words_later": far, "rounds_to_cap": near}}
    answer, rows = findings.likeness(surface)
    assert answer.startswith("in part: 2 of 3")
    assert rows[1].verdict == "6.0 times people's own distance"
    assert findings.likeness(None)[0] == "not known yet"


def test_figures_of_no_number_are_dashes() -> None:
    assert {figure(None), figure("x"), percent(None), distance(float("nan"))} == {"\N{EN DASH}"}
    assert percent(0.074) == "7.4\N{NO-BREAK SPACE}%"
    assert distance(0.002874) == "0.0029"


def test_entities_are_escaped_once(small) -> None:
    record = '{"messages": [{"role": "user", "content": "R&D <b>"}]}'
    lost = [Rejection("x", "filters", "echo", "", record)]
    write_rejections(small / "rejected" / "curate.parquet", lost)
    write_report(small)
    assert html.escape("R&D <b>") in (small / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("broken", [XSS[0], {"first": {"people": XSS[0], "auc": XSS[1]}}])
def test_a_learned_likeness_is_shown_by_its_numbers_alone(small, broken):
    heading = "Which of its turns are taken"
    assert heading not in rendered(small).text  # nothing was chosen
    write_json(small / "metrics.json", metrics() | {"likeness": broken})
    page = rendered(small)
    assert "script" not in page.tags
    assert "alert" not in page.text
    assert (heading in page.text) == isinstance(broken, dict)
    assert (f"first turns {NONE} {NONE} {NONE}" in page.text) == isinstance(broken, dict)
