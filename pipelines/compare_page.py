"""`realchat compare` as a table for the terminal and as a page of one file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines import charts
from pipelines.compare import Comparison, Row
from pipelines.report import distance, environment, figure, percent
from usersim.surface import Shape, rounds_distribution

if TYPE_CHECKING:
    from rich.console import RenderableType

MARK = "\N{BLACK RIGHT-POINTING TRIANGLE}"


def written(row: Row, value: float | None) -> str:
    """A value as the row's kind is written."""
    if row.kind == "share":
        return percent(value)
    return distance(value) if row.kind == "distance" else figure(value)


def difference(row: Row) -> str:
    """The difference with its interval, in percentage points where the row is a share."""
    if row.difference is None:
        return ""
    scale, unit = (100.0, " points") if row.kind == "share" else (1.0, "")
    text = _signed(row.difference * scale) + unit
    if row.low is None or row.high is None:
        return text
    return f"{text} ({_signed(row.low * scale)} to {_signed(row.high * scale)})"


def _signed(number: float) -> str:
    """Three digits, and no more than people read."""
    return f"{float(f'{number:.3g}'):+,g}".replace("-", "\N{MINUS SIGN}")


def summary(found: Comparison) -> str:
    """The answer in a line."""
    first, second = found.names
    rows = sum(len(section.rows) for section in found.sections)
    if not rows:
        return f"{first} and {second} have no figures in common yet"
    names = ", ".join(row.name for row in found.matters[:4])
    more = f" and {len(found.matters) - 4} more" if len(found.matters) > 4 else ""
    if not names:
        return f"no difference between {first} and {second} is more than chance"
    return f"{len(found.matters)} of {rows} figures differ by more than chance: {names}{more}"


def table(found: Comparison) -> "RenderableType":
    """The comparison for a terminal."""
    from rich.table import Table

    first, second = found.names
    shown = Table(title=summary(found), title_justify="left", box=None, pad_edge=False)
    shown.add_column("")
    shown.add_column("")
    for name in (first, second):
        shown.add_column(name, justify="right")
    shown.add_column(f"{second} less {first} (99 % interval)")
    for section in found.sections:
        shown.add_row("", f"[bold]{section.title}")
        for row in section.rows:
            values = (written(row, row.first), written(row, row.second))
            style = "bold" if row.matters else ""
            mark = MARK if row.matters else ""
            shown.add_row(mark, f"  {row.name}", *values, difference(row), style=style)
    return shown


def page(found: Comparison) -> str:
    """The comparison as one HTML file that needs nothing else."""
    return environment().get_template("compare.html").render(_context(found))


def body(found: Comparison) -> Any:
    """The comparison as markup that may stand in a page as it is."""
    from markupsafe import Markup

    text = environment().get_template("compare_body.html").render(_context(found))
    return Markup(text)  # noqa: S704 - rendered with autoescape


def _context(found: Comparison) -> dict[str, Any]:
    return {
        "found": found,
        "names": found.names,
        "summary": summary(found),
        "written": written,
        "difference": difference,
        "charts": drawings(found),
    }


def drawings(found: Comparison) -> list[tuple[str, list[Any]]]:
    """Lengths and rounds of each run beside the same people's, as pairs of drawings."""
    from markupsafe import Markup

    drawn: list[tuple[str, list[Any]]] = []
    sides = [(view.simulated, view.people) for view in found.views]
    if not all(simulated and people for simulated, people in sides):
        return drawn
    for turn in ("first", "later"):
        pair = [
            charts.lengths(_shapes(simulated), _shapes(people), turn) for simulated, people in sides
        ]
        drawn.append((f"Words per {turn} user turn", [Markup(svg) for svg in pair]))  # noqa: S704
    rounds = [charts.rounds(_rounds(s), _rounds(p)) for s, p in sides]
    drawn.append(("Rounds", [Markup(svg) for svg in rounds]))  # noqa: S704
    return drawn


def _shapes(talks: Sequence[Any]) -> list[Shape]:
    return [Shape.of(talk) for talk in talks]


def _rounds(talks: Sequence[Any]) -> dict[str, float]:
    return {str(k): v for k, v in rounds_distribution([t.num_rounds for t in talks]).items()}
