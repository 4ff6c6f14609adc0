"""Charts as inline SVG: drawn by Vega-Lite ahead of time, so a page shows them without any script.

Every function takes plain figures and returns `<svg>` text that is safe to place in a page as it
is. Colours are CSS variables of the page (`--grid --real --sim --kept --lost --paper`), so one
drawing serves light and dark; people are blue and models orange, which the common kinds of colour
blindness keep apart (Okabe and Ito, "Color Universal Design", 2008).
"""

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from usersim.surface import SPLITS, Shape, halves

if TYPE_CHECKING:
    import altair as alt

WIDTH = 420
"""Pixels, labels included: a chart fits a phone without being shrunk much."""
END_LABEL_SHARE = 0.2
"""Room that bars leave at the right for the figures at their ends."""
ROW = 22
BAR = 13
REASONS_SHOWN = 6

# Stand-ins that Vega-Lite understands; `_to_page_colours` turns them into the page's variables.
INK, GRID, REAL, SIM = "#010101", "#020202", "#030303", "#040404"
KEPT, LOST, PAPER = "#050505", "#060606", "#070707"
_VARIABLES = {
    INK: "currentColor",
    GRID: "var(--grid)",
    REAL: "var(--real)",
    SIM: "var(--sim)",
    KEPT: "var(--kept)",
    LOST: "var(--lost)",
    PAPER: "var(--paper)",
}
_drawings = count()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, with the ends of its 95 % interval where they are known."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after."""

    label: str
    before: Estimate
    after: Estimate


def thousands(number: float) -> str:
    """A count or figure as people read it: 17,671 or 0.042 or 12.3."""
    if float(number).is_integer():
        return f"{int(number):,}"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def plain_words(name: str) -> str:
    """An identifier such as `near_duplicate` as words."""
    return name.replace("_", " ").replace(":", ": ")


def waterfall(stages: Sequence[Mapping[str, Any]]) -> str:
    """What went in, what each reason took away, what was kept; `stages` as in metrics.json.

    A stage that takes over what the one before kept goes on in the same fall; another begins anew.
    """
    import altair as alt

    rows = _distinct_labels(row for chain in _chains(stages) for row in _fall(chain))
    base = alt.Chart(alt.Data(values=rows)).encode(y=_names())
    units = " / ".join(dict.fromkeys(str(s.get("unit", "records")) for s in stages))
    marks = base.mark_bar(size=BAR, cornerRadius=2).encode(
        x=_bar_axis(rows, units), x2="end:Q", color=alt.Color("colour:N", scale=None)
    )
    return draw(marks + _end_labels(base), f"funnel from {rows[0]['text']} to {rows[-1]['text']}")


def _chains(stages: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Runs of stages in which each takes over exactly what the one before it kept."""
    chains: list[list[Mapping[str, Any]]] = []
    for stage in stages:
        if chains and chains[-1][-1]["kept"] == stage["in"]:
            chains[-1].append(stage)
        else:
            chains.append([stage])
    return chains


def _fall(chain: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    first, left = chain[0], chain[0]["in"]
    rows = [_span(str(first.get("unit", "records")), 0, left, KEPT, left)]
    for stage in chain:
        for reason, lost in _largest(stage["reasons"]):
            rows.append(_span(reason, left - lost, left, LOST, -lost))
            left -= lost
    return [*rows, _span("kept", 0, left, KEPT, left)]


def _largest(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    shown, rest = ordered[:REASONS_SHOWN], ordered[REASONS_SHOWN:]
    if rest:
        shown.append((f"{len(rest)} other reasons", sum(lost for _, lost in rest)))
    return shown


def _span(label: str, start: float, end: float, colour: str, number: float) -> dict[str, Any]:
    text = thousands(number).replace("-", "\N{MINUS SIGN}")
    name = plain_words(label)
    return {"label": name, "start": start, "end": end, "colour": colour, "text": text}


def bars(figures: Mapping[str, float], unit: str, colour: str = SIM) -> str:
    """Horizontal bars, one a name, each with its figure; in the given order."""
    import altair as alt

    rows = _distinct_labels(_span(k, 0, v, colour, v) for k, v in figures.items())
    base = alt.Chart(alt.Data(values=rows)).encode(y=_names())
    marks = base.mark_bar(size=BAR, cornerRadius=2, color=colour).encode(
        x=_bar_axis(rows, unit), x2="end:Q"
    )
    return draw(marks + _end_labels(base), f"{unit}: {', '.join(figures)}")


def lengths(simulated: Sequence[Shape], real: Sequence[Shape], turn: str) -> str:
    """Densities of words per user turn over a log axis; the band is what halves of people span.

    `turn` is "first" or "later".
    """
    import altair as alt

    words = _FIRST_OR_LATER[turn]
    drawn = [_density(words(half)) for salt in range(SPLITS // 2) for half in halves(real, salt)]
    band = [
        {"words": x, "low": min(ys), "high": max(ys)}
        for x, ys in zip(_length_grid(), zip(*drawn, strict=True), strict=True)
    ]
    sides = {"people": (REAL, real), "simulated": (SIM, simulated)}
    lines = [
        {"words": x, "share": y, "who": who, "colour": colour}
        for who, (colour, shapes) in sides.items()
        for x, y in zip(_length_grid(), _density(words(shapes)), strict=True)
    ]
    ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500]
    axis = alt.Axis(values=ticks, format=",d", grid=True, labelOverlap=False)
    title = f"words per {turn} user turn (log scale)"
    x = alt.X("words:Q", title=title, axis=axis, scale=alt.Scale(type="log", domain=[0.7, 1450]))
    share = alt.Axis(format="%", tickCount=4, title="share of turns per doubling")
    spread = alt.Chart(alt.Data(values=band)).mark_area(color=REAL, opacity=0.22)
    curves = alt.Chart(alt.Data(values=lines)).mark_line(strokeWidth=2)
    chart = spread.encode(x=x, y=alt.Y("low:Q", axis=share), y2="high:Q") + curves.encode(
        x=x, y=alt.Y("share:Q", axis=share), detail="who:N", color=alt.Color("colour:N", scale=None)
    )
    return draw(chart.properties(height=170), f"{title}, simulated and people's")


_FIRST_OR_LATER: dict[str, Callable[[Sequence[Shape]], list[float]]] = {
    "first": lambda shapes: [s.first_words for s in shapes],
    "later": lambda shapes: [w for s in shapes for w in s.later_words],
}
_OCTAVES, _STEPS, _BANDWIDTH = 11, 8, 0.35
"""Range of the length axis in doublings, points a doubling, and the kernel's width in doublings."""


def _length_grid() -> list[float]:
    return [2 ** (i / _STEPS - 0.5) for i in range(_OCTAVES * _STEPS)]


def _density(words: Sequence[float]) -> list[float]:
    """Gaussian kernel density of log2(words) on `_length_grid`; zero everywhere without words."""
    import numpy as np

    if not words:
        return [0.0] * (_OCTAVES * _STEPS)
    values, weights = np.unique(np.log2(np.maximum(words, 1)), return_counts=True)
    apart = (np.log2(_length_grid())[:, None] - values[None, :]) / _BANDWIDTH
    kernels = np.exp(-0.5 * apart**2) / (_BANDWIDTH * np.sqrt(2 * np.pi))
    return [float(y) for y in kernels @ (weights / weights.sum())]


def rounds(simulated: Mapping[str, float], real: Mapping[str, float]) -> str:
    """Shares of conversations by number of rounds, side by side; keys as in `surface.describe`."""
    import altair as alt

    names = sorted(simulated.keys() | real.keys(), key=int)
    sides = {"people": (REAL, real), "simulated": (SIM, simulated)}
    rows = [
        {"rounds": _open_ended(k, names), "share": shares.get(k, 0), "who": who, "colour": colour}
        for k in names
        for who, (colour, shares) in sides.items()
    ]
    marks = alt.Chart(alt.Data(values=rows)).mark_bar(cornerRadius=2)
    chart = marks.encode(
        x=alt.X("rounds:N", sort=None, title="rounds", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("share:Q", axis=alt.Axis(format="%", tickCount=4, title="share of conversations")),
        xOffset=alt.XOffset("who:N", sort=["people", "simulated"]),
        color=alt.Color("colour:N", scale=None),
    )
    return draw(chart.properties(height=170), "rounds per conversation, simulated and people's")


def _open_ended(name: str, names: Sequence[str]) -> str:
    return f"{name}+" if name == names[-1] else name


def changes(items: Sequence[Change], unit: str) -> str:
    """Before (hollow) and after (full) on one axis, an interval around each where it is known."""
    import altair as alt

    rows = _distinct_labels(
        {"label": item.label, "when": when, "value": e.mean, "low": e.low, "high": e.high}
        for item in items
        for when, e in (("before", item.before), ("after", item.after))
    )
    for row, item in zip(rows, (i for i in items for _ in range(2)), strict=True):
        row["label"] = f"{item.label}, {row['when']}"
        row["fill"] = SIM if row["when"] == "after" else PAPER
        row["text"] = thousands(round(row["value"], 3))
    x = alt.X("value:Q", title=unit, scale=alt.Scale(zero=False, padding=26), axis=_few_ticks())
    base = alt.Chart(alt.Data(values=rows)).encode(y=_names())
    spans = base.transform_filter("datum.low !== null && datum.high !== null").mark_rule(
        strokeWidth=2, color=SIM
    )
    dots = base.mark_point(size=80, stroke=SIM, strokeWidth=2, opacity=1)
    labels = base.mark_text(dy=-11, color=INK, fontSize=12).encode(x=x, text="text:N")
    chart = (
        spans.encode(x=alt.X("low:Q", scale=alt.Scale(zero=False)), x2="high:Q")
        + dots.encode(x=x, fill=alt.Fill("fill:N", scale=None))
        + labels
    )
    return draw(chart.properties(height=alt.Step(ROW + 10)), f"{unit}, before and after")


def curve(points: Sequence[tuple[float, float]], x_title: str, y_title: str) -> str:
    """A line through (x, y) points, such as a learning curve."""
    import altair as alt

    rows = [{"x": x, "y": y} for x, y in points]
    chart = alt.Chart(alt.Data(values=rows)).mark_line(
        color=SIM, strokeWidth=2, point=alt.OverlayMarkDef(color=SIM, size=30)
    )
    chart = chart.encode(
        x=alt.X("x:Q", title=x_title, axis=_few_ticks()),
        y=alt.Y("y:Q", title=y_title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4)),
    )
    return draw(chart.properties(height=170), f"{y_title} by {x_title}")


def _distinct_labels(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with labels all different (by spaces of no width): a name axis merges equal ones."""
    seen: set[str] = set()
    result = []
    for row in rows:
        label = row["label"]
        while label in seen:
            label += "\N{ZERO WIDTH SPACE}"
        seen.add(label)
        result.append(row | {"label": label})
    return result


def _names() -> "alt.Y":
    import altair as alt

    axis = alt.Axis(
        title=None, ticks=False, domain=False, grid=False, labelLimit=180, labelPadding=6
    )
    return alt.Y("label:N", sort=None, axis=axis)


def _bar_axis(rows: Sequence[Mapping[str, Any]], title: str) -> "alt.X":
    import altair as alt

    largest = max((row["end"] for row in rows), default=0) or 1
    scale = alt.Scale(domain=[0, largest * (1 + END_LABEL_SHARE)], nice=False)
    return alt.X("start:Q", title=title, axis=_few_ticks(), scale=scale)


def _few_ticks() -> "alt.Axis":
    import altair as alt

    return alt.Axis(tickCount=4, format=",~r", labelFlush=False)


def _end_labels(base: "alt.Chart") -> "alt.Chart":
    return base.mark_text(align="left", dx=5, color=INK, fontSize=12).encode(
        x="end:Q", text="text:N"
    )


def draw(chart: "alt.Chart", label: str) -> str:
    """The chart as `<svg>` in the page's colours, with `label` for screen readers."""
    import altair as alt
    import vl_convert

    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    shaped = chart.properties(width=WIDTH, background="transparent", autosize=fit)
    svg: str = vl_convert.vegalite_to_svg(shaped.configure(**_STYLE).to_dict())
    return _labelled(_own_names(_to_page_colours(svg)), label)


_STYLE: dict[str, Any] = {
    "font": "Arial",  # as wide as what the page shows, or labels would not fit
    "padding": {"left": 12, "top": 5, "right": 5, "bottom": 5},
    "aria": False,
    "view": {"stroke": None},
    "scale": {"barBandPaddingInner": 0.3},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "tickColor": GRID,
        "domainColor": GRID,
        "labelOpacity": 0.85,
        "titleOpacity": 0.7,
    },
    "axisX": {"grid": False},
}


def _to_page_colours(svg: str) -> str:
    return re.sub(
        r'\b(fill|stroke)="(#[0-9a-f]{6})"',
        lambda found: f'{found[1]}="{_VARIABLES.get(found[2], found[2])}"',
        svg,
    )


def _own_names(svg: str) -> str:
    """Prefix the drawing's inner ids, which would meet those of other drawings in the page."""
    prefix = f"d{next(_drawings)}-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    return svg.replace("url(#", f"url(#{prefix}")


_PALETTE = {
    "light": "--grid:#dcd8cf;--real:#0072b2;--sim:#d55e00;--kept:#00875f;--lost:#b4aea3;"
    "--paper:#fff;color:#1f1e1c;background:#fff",
    "dark": "--grid:#3d3c37;--real:#5eb5e8;--sim:#f0934f;--kept:#3cc79a;--lost:#77736a;"
    "--paper:#161614;color:#e9e6df;background:#161614",
}
"""The page's colours (report.css), for a drawing that stands alone."""


def as_file(svg: str) -> str:
    """A drawing as a file of its own, in its own colours; the same figures give the same bytes."""
    style = (
        f"<style>svg{{{_PALETTE['light']}}}"
        f"@media(prefers-color-scheme:dark){{svg{{{_PALETTE['dark']}}}}}</style>"
    )
    head, inside = re.sub(r'(id="|url\(#)d\d+-', r"\1", svg).split(">", 1)
    known = "" if "xmlns=" in head else ' xmlns="http://www.w3.org/2000/svg"'
    return f"{head}{known}>{style}{inside}\n"


def _labelled(svg: str, label: str) -> str:
    head = re.match(r'<svg[^>]*\bviewBox="([0-9.\- ]+)"[^>]*>', svg)
    assert head, "the renderer wrote no viewBox"
    width, height = head[1].split()[2:]
    name = f'class="chart" role="img" aria-label="{html.escape(label)}"'
    size = f'viewBox="{head[1]}" width="{width}" height="{height}"'
    return f"<svg {name} {size}>{svg[head.end() :]}"
