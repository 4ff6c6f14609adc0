"""Charts are still drawings: no script, nothing from elsewhere, every figure readable."""

import re
from functools import cache
from xml.etree import ElementTree

import pytest

from pipelines import charts
from usersim.surface import Shape

EVIL = "</text><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
STAGES = [
    {"stage": "read", "unit": "records", "in": 1000, "kept": 990, "reasons": {"broken": 10}},
    {"stage": "clean", "unit": "talks", "in": 700, "kept": 650, "reasons": {"x_y": 30, EVIL: 20}},
    {"stage": "openers", "unit": "talks", "in": 650, "kept": 641, "reasons": {"x_y": 9}},
]


def shapes(count: int, words: int) -> list[Shape]:
    """People whose first turns have about `words` words, with 0 to 2 later turns."""
    return [
        Shape(f"i{k}", words + k % 5, tuple([float(k % 9 + 1)] * (k % 3)), 1 + k % 3, 1 + k % 3)
        for k in range(count)
    ]


DRAWINGS = {
    "waterfall": lambda: charts.waterfall(STAGES),
    "bars": lambda: charts.bars({"user_ended": 120, EVIL: 80}, "conversations"),
    "no bars": lambda: charts.bars({"user_ended": 0}, "conversations"),
    "lengths": lambda: charts.lengths(shapes(30, 9), shapes(40, 12), "first"),
    "no later turns": lambda: charts.lengths(
        [Shape("a", 3.0, (), 1, 1)], [Shape("b", 2.0, (), 1, 1)], "later"
    ),
    "rounds": lambda: charts.rounds({"1": 0.4, "9": 0.6}, {"1": 0.7, "2": 0.3}),
    "changes": lambda: charts.changes(
        [
            charts.Change(EVIL, charts.Estimate(20.4, 19.0, 22.0), charts.Estimate(16.9)),
            charts.Change(EVIL, charts.Estimate(2.0), charts.Estimate(3.0)),
        ],
        "perplexity",
    ),
    "curve": lambda: charts.curve([(0, 3.0), (100, 2.5), (200, 2.4)], EVIL, "loss"),
}


@cache
def drawing(name: str) -> str:
    """One of the drawings, drawn once."""
    return DRAWINGS[name]()


def texts(svg: str) -> list[str]:
    """What a reader sees written in a drawing."""
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("text")]


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_well_formed_and_nothing_in_it_runs_or_loads(name: str) -> None:
    svg = drawing(name)
    nodes = list(ElementTree.fromstring(svg).iter())
    assert not {n.tag.lower() for n in nodes} & {"script", "image", "foreignobject", "style", "a"}
    names = {key.lower() for n in nodes for key in n.attrib}
    assert not [key for key in names if key.startswith("on") or key.endswith("href")]
    assert not re.search(r"https?://", svg)
    assert set(re.findall(r"url\((.)", svg)) <= {"#"}


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_colour_is_the_pages_own(name: str) -> None:
    colours = set(re.findall(r'\b(?:fill|stroke)="([^"]*)"', drawing(name)))
    assert {c for c in colours if not c.startswith("var(--")} <= {"currentColor", "none"}


@pytest.mark.parametrize("name", DRAWINGS)
def test_screen_readers_are_told_what_it_shows(name: str) -> None:
    root = ElementTree.fromstring(drawing(name))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"]


def test_a_waterfall_shows_every_count_and_begins_anew_where_the_unit_changes() -> None:
    seen = texts(charts.waterfall(STAGES))
    minus = "\N{MINUS SIGN}"
    for text in ("1,000", f"{minus}10", "990", "700", f"{minus}30", f"{minus}20", "641"):
        assert text in seen
    assert "650" not in seen  # the last two stages are one fall
    assert seen.count("x y") + seen.count("x y\u200b") == 2  # the same reason of two stages


def test_many_reasons_are_summed_up_and_none_is_lost() -> None:
    reasons = {f"reason_{k}": 10 - k for k in range(9)}
    lost = sum(reasons.values())
    stage = {"stage": "s", "unit": "u", "in": 100, "kept": 100 - lost, "reasons": reasons}
    seen = texts(charts.waterfall([stage]))
    shown = [int(t[1:]) for t in seen if t.startswith("\N{MINUS SIGN}")]
    assert sum(shown) == lost
    assert "3 other reasons" in seen


def test_two_drawings_in_one_page_share_no_names() -> None:
    ids = [set(re.findall(r'\bid="([^"]+)"', DRAWINGS["lengths"]())) for _ in range(2)]
    assert not ids[0] & ids[1]


def test_before_and_after_are_written_beside_their_points() -> None:
    assert {"20.4", "16.9", "2", "3"} <= set(texts(drawing("changes")))


@pytest.mark.parametrize(
    ("number", "text"),
    [(17671, "17,671"), (0.0423, "0.0423"), (12.345, "12.3"), (1234.5, "1,234"), (0, "0")],
)
def test_figures_are_written_as_people_read_them(number: float, text: str) -> None:
    assert charts.thousands(number) == text


def test_a_drawing_as_a_file_has_its_own_colours_and_the_same_bytes_again() -> None:
    files = [charts.as_file(charts.bars({"a": 1, "b": 2}, "things")) for _ in range(2)]
    assert files[0] == files[1]
    ElementTree.fromstring(files[0])
    used = set(re.findall(r"var\((--[a-z]+)\)", files[0]))
    assert used
    assert all(f"{name}:#" in files[0] for name in used)
    assert "prefers-color-scheme:dark" in files[0]
