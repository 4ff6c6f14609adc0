"""The report: one page that shows how good a run is, in one file that needs nothing else.

Every figure comes from the run's metrics.json or is computed here from its conversations; what has
not been made yet says which command makes it. No script, no request to anywhere, and whatever a
person or a model wrote is text and nothing but text.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import character_part, charts, findings
from pipelines import report_sections as sections
from pipelines.roleplay_part import roleplay
from pipelines.run_view import RunView, as_number, drawn, numbers_of, rejected_samples
from pipelines.verdict import GATE_IN_WORDS, IN_WORDS, reasons_told, verdict
from usersim.conversation import Conversation
from usersim.files import write_text
from usersim.progress import duration
from usersim.surface import Shape, compare, frequent_openings, rounds_cap

if TYPE_CHECKING:
    from jinja2 import Environment

REJECTED_SAMPLES, OPENER_SAMPLES = 6, 10
SHOWN_OPENER_CHARACTERS = 160
Context = dict[str, Any]

STATISTICS = {
    "words_median": "words, median",
    "words_mean": "words, mean",
    "up_to_3_words": "3 words or fewer",
    "over_100_words": "more than 100 words",
    "lower_case_start": "begins in lower case",
    "ends_in_punctuation": "ends in . ? or !",
    "question_mark": "contains ?",
    "please": "contains “please”",
    "thank": "contains “thank”",
    "distinct_openings": "distinct three-word starts",
    "distinct_turns": "distinct texts",
}
DISTANCES = {
    "words_first": ("words, first turn", "words"),
    "words_later": ("words, later turns", "words"),
    "doublings_first": ("length, first turn", "doublings"),
    "doublings_later": ("length, later turns", "doublings"),
    "rounds": ("rounds", "bit"),
    "rounds_to_cap": ("rounds, up to the cap", "bit"),
}


def write_report(run: Path) -> dict[str, Any]:
    """Write `run/report.html`; returns the stage's figures: `surface`, `surface_kept`, `bytes`.

    The two are `usersim.surface.compare` of all simulated conversations, and of those that
    curation kept, with the held-out people; None where one side is missing.
    Raises InputError when there is no such folder, WorldError when the disk refuses.
    """
    view = RunView.of(run)
    surface, surface_kept = (_compared(side, view.people) for side in (view.simulated, view.kept))
    page = render(view, surface, surface_kept)
    write_text(run / "report.html", page)
    return {"surface": surface, "surface_kept": surface_kept, "bytes": len(page.encode())}


def _compared(simulated: list[Conversation], people: list[Conversation]) -> Context | None:
    return compare(simulated, people) if simulated and people else None


def render(view: RunView, surface: Context | None, surface_kept: Context | None) -> str:
    """The page as text."""
    context = {
        "name": view.root.resolve().name,
        "view": view,
        "made": _made(view),
        "verdict": verdict(view, surface),
        "first": _first_screen(view, surface),
        "funnels": _funnels(view),
        "surface": _surface(view, surface, surface_kept),
        "rounds": _rounds(view, surface),
        "openers": _openers(view),
        "perplexity": _perplexity(view),
        "choice": sections.choice(view),
        "loss": _loss(view),
        "speed": _speed(view),
        "clean": sections.cleanliness(view),
        "fidelity": sections.fidelity(view),
        "roleplay": roleplay(view),
        "character": character_part.part(view),
        "cost": sections.cost(view),
        "samples": sections.samples(view.kept or view.simulated),
        "rejected": rejected_samples(view.rejected, REJECTED_SAMPLES, view.findings),
        "machine": view.table("machine"),
        "versions": view.table("versions"),
        "definitions": (surface or {}).get("definitions", {}),
    }
    page = environment().get_template("report.html").render(context)
    # A record may hold half of a surrogate pair, which is no text that a file can hold.
    return page.encode("utf-8", "replace").decode()


def environment() -> "Environment":
    """Templates of this folder, escaping whatever they are filled with."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure,
        "percent": percent,
        "plain": charts.plain_words,
        "distance": distance,
        "signed": findings.signed,
        "duration": duration,
    }
    environment.globals["gate_words"] = GATE_IN_WORDS
    return environment


def figure(value: Any) -> str:
    """A number as people read it; a dash where there is none."""
    number = as_number(value)
    return "\N{EN DASH}" if number is None else charts.thousands(number)


def percent(value: Any) -> str:
    """A share, 0 to 1, in percent; one digit more below ten."""
    number = as_number(value)
    if number is None:
        return "\N{EN DASH}"
    text = f"{number:.0%}" if number >= 0.0995 or number == 0 else f"{number:.1%}"
    return text.replace("%", "\N{NO-BREAK SPACE}%")


def distance(value: Any) -> str:
    """A distance to two digits, which is more than chance leaves of it."""
    number = as_number(value)
    return "\N{EN DASH}" if number is None else f"{float(f'{number:.2g}'):g}"


def _svg(draw: Callable[..., str], *arguments: Any) -> Any:
    """A drawing as markup that may stand in the page as it is (its texts are escaped in it)."""
    from markupsafe import Markup

    return Markup(draw(*arguments))  # noqa: S704


def _made(view: RunView) -> dict[str, bool]:
    """Which stages have left figures or conversations."""
    keys = ("ingest", "user_model", "simulate", "curate", "corpus", "assistant", "timing")
    made = {key: bool(view.at(key)) for key in keys}
    return made | {"people": bool(view.people), "simulated": bool(view.simulated)}


def _first_screen(view: RunView, surface: Context | None) -> Context:
    """What the verdict rests on."""
    return {
        "distances": findings.likeness(surface)[1],
        "models": findings.models(view),
        "perplexity": findings.perplexity_changes(view)[:1],
        "loss": findings.loss_sentence(view, "real"),
        "gate": findings.gate(view),
        "why": findings.may_publish(view)[1],
    }


def _funnels(view: RunView) -> list[Context]:
    titles = ("Real people's conversations", "Simulated conversations")
    verbs = ("ingest", "simulate")
    return [
        {
            "title": title,
            "verb": verb,
            "stages": stages,
            "chart": _svg(charts.waterfall, stages) if stages else "",
            "lost": f"Left out: {reasons_told(_lost(stages))}" if stages else "",
            "meanings": {r: IN_WORDS[r] for s in stages for r in s["reasons"] if r in IN_WORDS},
        }
        for title, verb, stages in zip(titles, verbs, findings.funnels(view), strict=True)
    ]


def _lost(stages: list[Context]) -> list[tuple[str, int]]:
    return findings.lost_by_reason(stages).most_common()


def _surface(view: RunView, surface: Context | None, kept: Context | None) -> Context | None:
    if surface is None:
        return None
    cap = rounds_cap(view.simulated)
    sides = [Shape.of(c, cap) for c in view.simulated], [Shape.of(c, cap) for c in view.people]
    return {
        "charts": [_svg(charts.lengths, *sides, turn) for turn in ("first", "later")],
        "statistics": [
            (label, not key.startswith("words"), _four(surface, key))
            for key, label in STATISTICS.items()
        ],
        "distances": [
            (
                findings.closeness(surface, name, *text),
                findings.closeness(kept, name, *text),
            )
            for name, text in DISTANCES.items()
        ],
        "turns": _four(surface, "turns"),
    }


def _four(surface: Context, key: str) -> list[Any]:
    """A statistic of first turns (people, simulated) and of later ones."""
    return [
        surface[side][turn][key] for turn in ("first", "later") for side in ("real", "simulated")
    ]


def _rounds(view: RunView, surface: Context | None) -> Context:
    stops = view.counts("simulate", "stop_reasons")
    people = view.counts("ingest", "people", "stop_reasons")
    sides = [surface[side]["rounds"] for side in ("simulated", "real")] if surface else []
    return {
        "chart": _svg(charts.rounds, *(s["share"] for s in sides)) if sides else "",
        "means": [s["mean"] for s in sides],
        "medians": [s["median"] for s in sides],
        "cap": surface["rounds_cap"] if surface else None,
        "stops": _bars(stops, "conversations"),
        "people_stops": people,
        "guards": view.counts("simulate", "guards"),
        "cut_answers": view.table("simulate").get("truncated_answers"),
        "end": [view.table("user_model", "end", kind) for kind in ("raw", "calibrated")],
    }


def _openers(view: RunView) -> Context | None:
    if not view.simulated:
        return None
    sides = {"Simulated users": view.simulated, "People": view.people}
    return {
        "distinct": sections.openers(view),
        "starts": [
            (title, len(side), frequent_openings(side)) for title, side in sides.items() if side
        ],
        # People's own words stay out of a page that may be published, and what curation masked or
        # threw away; the three most frequent words of an opener are nobody's.
        "samples": [
            c.opener[:SHOWN_OPENER_CHARACTERS]
            + ("\N{HORIZONTAL ELLIPSIS}" if len(c.opener) > SHOWN_OPENER_CHARACTERS else "")
            for c in drawn(view.kept or view.simulated, OPENER_SAMPLES)
        ],
    }


def _perplexity(view: RunView) -> Context:
    changes = findings.perplexity_changes(view)
    title = "perplexity on held-out people"
    return {
        "chart": _svg(charts.changes, changes, title) if changes else "",
        "changes": changes,
        "conversations": view.number("user_model", "perplexity", "conversations"),
        "difference": view.estimate("user_model", "perplexity", "nll_difference"),
        "curve": _curve(view, "user_model"),
    }


def _curve(view: RunView, model: str) -> Any:
    """How the training loss fell; nothing without at least two points."""
    found = view.at(model, "training", "losses")
    entries = found if isinstance(found, list) else []
    pairs = [p for p in entries if isinstance(p, list) and len(p) == 2]
    points = [(x, y) for x, y in pairs if as_number(x) is not None and as_number(y) is not None]
    titles = ("tokens trained on", "training loss, nats per token")
    return _svg(charts.curve, points, *titles) if len(points) > 1 else ""


def _loss(view: RunView) -> Context:
    changes = findings.loss_changes(view)
    title = "loss on held-out answers, nats per token"
    names = {"real": "people's chats", "simulated": "simulated chats"}
    return {
        "chart": _svg(charts.changes, changes, title) if changes else "",
        "sentences": [
            (label, view.number("assistant", "loss", name, "conversations"), sentence)
            for name, label in names.items()
            if (sentence := findings.loss_sentence(view, name))
        ],
        "curve": _curve(view, "assistant"),
    }


def _speed(view: RunView) -> Context:
    seconds = numbers_of(view.at("timing"))
    stages = {name.removesuffix("_s"): value for name, value in seconds.items()}
    rates = numbers_of(view.at("simulate", "tokens_per_s"))
    return {
        "total": sum(seconds.values()),
        "timing": _bars(stages, "seconds", charts.REAL),
        "rates": _bars({f"simulate, {role}": rate for role, rate in rates.items()}, "tokens/s"),
        "cache": view.number("simulate", "cache_hit_rate"),
        "training": {
            title: view.number(model, "training", "tokens_per_s")
            for model, title in (("user_model", "UserGPT"), ("assistant", "The student"))
        },
    }


def _bars(figures: Mapping[str, float], unit: str, colour: str = charts.SIM) -> Any:
    return _svg(charts.bars, figures, unit, colour) if figures else ""
