"""Charts of fidelity.json, as inline SVG in the page's colours (see `charts`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.charts import INK, REAL, SIM, draw

NARROW = 14
CLIPPED = 1.5
"""Errors beyond this are drawn at the edge: one of 400 % would hide all others."""


def errors(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Relative errors: a dot with its interval; the band is what halves of people reach."""
    import altair as alt

    known = [row for row in rows if row["value"] is not None]
    data = [
        {
            "label": row["name"],
            "value": _clip(row["value"]),
            "low": _clip(row["low"] if row["low"] is not None else row["value"]),
            "high": _clip(row["high"] if row["high"] is not None else row["value"]),
            "from": -_clip(row["floor_high"] or 0.0),
            "to": _clip(row["floor_high"] or 0.0),
            "prompted": None if row["prompted"] is None else _clip(row["prompted"]),
        }
        for row in known
    ]
    axis = alt.Axis(format="+%", tickCount=5)
    scale = alt.Scale(domain=[-CLIPPED, CLIPPED])
    names = alt.Y("label:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False))
    base = alt.Chart(alt.Data(values=data)).encode(y=names)
    x = alt.X("value:Q", title=title, axis=axis, scale=scale)
    band = base.mark_bar(size=NARROW, color=REAL, opacity=0.2).encode(
        x=alt.X("from:Q", title=title, axis=axis, scale=scale), x2="to:Q"
    )
    span = base.mark_rule(color=SIM, strokeWidth=2).encode(
        x=alt.X("low:Q", scale=scale), x2="high:Q"
    )
    dots = base.mark_point(filled=True, size=60, color=SIM, opacity=1).encode(x=x)
    theirs = base.transform_filter("datum.prompted !== null").mark_point(
        shape="cross", size=50, color=INK, opacity=0.7
    )
    layers = band + span + dots + theirs.encode(x=alt.X("prompted:Q", scale=scale))
    return draw(layers.properties(height=alt.Step(NARROW + 8)), title)


def _clip(value: float) -> float:
    return max(-CLIPPED, min(CLIPPED, float(value)))


def calibration(curve: Sequence[Mapping[str, float]]) -> str:
    """Rate of leaving over probability, in tenths of the decisions; the diagonal is right."""
    import altair as alt

    rows = [dict(point) for point in curve]
    most = max([0.1, *(max(p["probability"], p["rate"]) for p in curve)]) * 1.1
    scale = alt.Scale(domain=[0, most])
    title = "the model's probability of leaving"
    line = alt.Chart(alt.Data(values=[{"x": 0, "y": 0}, {"x": most, "y": most}])).mark_line(
        color=REAL, strokeDash=[4, 3]
    )
    dots = alt.Chart(alt.Data(values=rows)).mark_line(
        color=SIM, point=alt.OverlayMarkDef(color=SIM, size=40, filled=True)
    )
    share = alt.Axis(format="%", tickCount=5, title="people who left")
    chart = line.encode(x=alt.X("x:Q", scale=scale), y=alt.Y("y:Q", scale=scale)) + dots.encode(
        x=alt.X("probability:Q", scale=scale, title=title, axis=alt.Axis(format="%", tickCount=5)),
        y=alt.Y("rate:Q", scale=scale, axis=share),
        order="probability:Q",
    )
    return draw(chart.properties(height=220), "calibration of the decision to leave")


def by_round(table: Mapping[str, Mapping[str, Any]]) -> str:
    """People's rate of leaving and the model's probability, by the number of rounds so far."""
    import altair as alt

    rows = [
        {"round": name, "share": one[key]["value"], "low": one[key]["low"],
         "high": one[key]["high"], "who": who, "colour": colour}
        for name, one in table.items()
        for who, key, colour in (("people", "true_rate", REAL), ("model", "probability", SIM))
    ]  # fmt: skip
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("round:N", sort=None, title="rounds so far", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("who:N", sort=["people", "model"]),
        color=alt.Color("colour:N", scale=None),
    )
    axis = alt.Axis(format="%", tickCount=4, title="leave now")
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(y=alt.Y("share:Q", axis=axis))
    spans = base.transform_filter("datum.low !== null").mark_rule(strokeWidth=2)
    return draw(
        (spans.encode(y=alt.Y("low:Q", axis=axis), y2="high:Q") + dots).properties(height=200),
        "leaving by round, people's and the model's",
    )


def areas(rows: Sequence[Mapping[str, Any]]) -> str:
    """AUC of the classifiers: a dot with its interval, the floor a bar, the baseline a cross."""
    import altair as alt

    data = [dict(row) | {"label": row["name"]} for row in rows if row["value"] is not None]
    scale = alt.Scale(domain=[0.35, 1.0], clamp=True)
    names = alt.Y("label:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False))
    title = "AUC: 0.5 cannot be told apart, 1.0 always"
    x = alt.X("value:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))
    base = alt.Chart(alt.Data(values=data)).encode(y=names)
    floors = base.mark_tick(color=REAL, thickness=3, size=18).encode(
        x=alt.X("floor:Q", scale=scale)
    )
    spans = base.mark_rule(color=SIM, strokeWidth=2).encode(
        x=alt.X("low:Q", scale=scale), x2="high:Q"
    )
    dots = base.mark_point(filled=True, size=60, color=SIM, opacity=1).encode(x=x)
    theirs = base.transform_filter("datum.prompted !== null").mark_point(
        shape="cross", size=50, color=INK, opacity=0.7
    )
    layers = floors + spans + dots + theirs.encode(x=alt.X("prompted:Q", scale=scale))
    return draw(layers.properties(height=alt.Step(NARROW + 10)), title)
