"""Fidelity as one page: charts, the words that give it away, all figures; no script, one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines import fidelity_charts
from pipelines.fidelity_screen import figures_of
from usersim.fidelity.summary import POINTS
from usersim.files import write_text

WORDS_SHOWN = 12


def write_page(path: Path, table: Mapping[str, Any]) -> None:
    """Write the page of a fidelity.json's table. Raises WorldError when the disk refuses."""
    write_text(path, render(table))


def render(table: Mapping[str, Any]) -> str:
    """The page as text; whatever a model or a person wrote in it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("fidelity.html").render(
        about=table["about"],
        charts=_charts(table),
        words=_words(table),
        rows=_rows(table),
        left_out=table["left_out"],
        measured=_measured(table["about"]),
        definitions=_definitions(table),
    )
    return page.encode("utf-8", "replace").decode()


def _charts(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    from markupsafe import Markup

    found = []
    rows = table["summary"]
    ending = table["termination"] or {}
    typing = [r for r in rows if r["point"] == "surface" and r["unit"] == "error"]
    apart = [r for r in rows if r["point"] == "two_sample"]
    if typing:
        text = "Relative errors; the band is what two halves of the real people reach."
        found.append(("How they type", text, fidelity_charts.errors(typing, "relative error")))
    if any(row["value"] is not None for row in apart):
        text = "How well classifiers tell simulated turns from real ones; the bar is the floor."
        found.append(("Told apart", text, fidelity_charts.areas(apart)))
    if ending.get("calibration") and "user_model" in ending:
        text = "When the model says 20 %, do 20 % leave?"
        drawing = fidelity_charts.calibration(ending["calibration"])
        found.append(("The decision to leave", text, drawing))
        text = "Intervals over persons: few are left after many rounds."
        found.append(("Leaving by round", text, fidelity_charts.by_round(ending["by_round"])))
    # The drawings are our own markup, their texts escaped by the renderer.
    return [{"title": a, "text": b, "svg": Markup(svg)} for a, b, svg in found]  # noqa: S704


def _words(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    apart = table["two_sample"] or {}
    return [
        {
            "name": part,
            "often": [w["word"] for w in apart[part]["words"]["too_often"][:WORDS_SHOWN]],
            "seldom": [w["word"] for w in apart[part]["words"]["too_seldom"][:WORDS_SHOWN]],
        }
        for part in ("first", "later")
        if apart.get(part)
    ]


def _rows(table: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (f"{POINTS.get(row['point'], row['point'])}: {row['name']}", *figures_of(row))
        for row in table["summary"]
    ]


def _measured(about: Mapping[str, Any]) -> str:
    view, people = about["context"], about["reference"]
    return (
        f"{people['conversations']} conversations of {people['persons']} persons from "
        f"{people['name']} ({people['known_to_model']} left out that the model knew); "
        f"{about['simulated']['conversations']} simulated, "
        f"{about['prompted']['conversations']} by the baseline. Likelihoods in windows of "
        f"{view['window']} tokens, turns of the assistant cut to {view['context_limit']}, of users "
        f"to {view['target_limit']}. The baseline's instruction, chosen on "
        f"{about['prompt_chosen_on']}: {about['prompted']['prompt'] or 'none'}"
    )


def _definitions(table: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = dict(table["definitions"])
    for point, name in POINTS.items():
        part = table.get(point)
        for key, text in ((part or {}).get("definitions") or {}).items():
            found[f"{name}: {key}"] = text
    return found
