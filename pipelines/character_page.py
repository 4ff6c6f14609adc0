"""The page of a character: is it more itself than its prompted base? One file, no script."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assistant.characters.interviews import Interview, read_interviews
from assistant.characters.protective import BOUNDARIES
from pipelines.character_part import answers, headline, nats
from pipelines.report import environment
from usersim.errors import InputError
from usersim.files import write_text

Figures = Mapping[str, Any]
NAMES = {
    "prompted": "the base, prompted",
    "trained": "the character",
    "unguarded": "trained without protection",
    "open_book": "the base with the whole story",
}
SHOWN = 4  # interviews of each model


def write_page(path: Path, made: Figures, asked: Figures) -> None:
    """Write the page from the figures of the two stages, and interviews beside it."""
    folder = path.parent / "character" / "asked"
    rows = answers(asked)
    page = (
        environment()
        .get_template("character.html")
        .render(
            made=made,
            asked=asked,
            names=NAMES,
            answers=rows,
            headline=headline(rows),
            protection=answers(asked, "unguarded"),
            probes=probe_rows(asked.get("probes", {})),
            refusals=refusal_rows(asked.get("refusals", {})),
            samples={name: samples(folder / name) for name in asked.get("refusals", {})},
        )
    )
    write_text(path, page)


def probe_rows(probes: Figures) -> list[tuple[str, str, str, str]]:
    """Model, what is probed, share right, margin; each figure with its interval."""
    rows = []
    for name, title in NAMES.items():
        for kind in ("fact", "boundary"):
            found = probes.get(name, {}).get(kind)
            if found:
                rows.append((title, kind, _share(found["right"]), nats(found["margin"])))
    return rows


def refusal_rows(refusals: Figures) -> list[tuple[str, list[str]]]:
    """Model, and the share that holds on each boundary and on ordinary questions."""
    kinds = [*BOUNDARIES, "fact"]
    return [
        (NAMES.get(name, name), [_share(found[k]) if k in found else "\N{EN DASH}" for k in kinds])
        for name, found in refusals.items()
    ]


def samples(folder: Path) -> list[Interview]:
    """A few interviews of a model: those of several rounds first."""
    try:
        held = read_interviews(folder / "interviews.jsonl")
    except InputError:
        return []
    single = [i for i in held if i.kind != "open" and i.repeat == 0]
    return [*[i for i in held if i.kind == "open"][:1], *single[:: max(1, len(single) // SHOWN)]][
        : SHOWN + 1
    ]


def _share(found: Figures) -> str:
    low, mean, high = (100 * found[key] for key in ("low", "mean", "high"))
    return f"{mean:.0f} % [{low:.0f}, {high:.0f}]"
