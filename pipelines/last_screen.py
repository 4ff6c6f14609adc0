"""The last screen of a run: what was made, the figures that matter, one conversation, what next."""

import shutil
import sys
from pathlib import Path
from typing import Any

from pipelines.run_folder import RunFolder
from usersim.conversation import Conversation
from usersim.errors import InputError
from usersim.files import read_conversations
from usersim.progress import duration

SHOWN_CHARACTERS = 600  # of one turn: the whole conversation should fit on a screen


def last_screen(run: RunFolder) -> str:
    """Plain text; every figure comes from metrics.json, and one that is not there is left out."""
    metrics = run.metrics()
    parts = [
        _section(f"{run.root} is ready", made(run, metrics)),
        _section("Figures that matter", figures(metrics)),
        _section("One conversation, whole", conversation_lines(run)),
        _section("Next", next_commands(run)),
    ]
    return "\n\n".join(part for part in parts if part)


def made(run: RunFolder, metrics: dict[str, Any]) -> list[str]:
    """What stands where."""
    made_by = "a user simulator, trained on real people's turns"
    places = [
        (run.user_model, made_by),
        (run.corpus, f"a corpus of {_at(metrics, 'curate', 'kept', default='some')} conversations"),
        (run.assistant_model, "an assistant, trained on that corpus"),
        (run.root / "models" / "character", "a model that is somebody, trained on a life story"),
        (run.root / "character.html", "that somebody beside its prompted base"),
        (run.report, "a page that shows how good all of it is"),
        (run.metrics_file, "every figure"),
    ]
    lines = [f"{path!s:<32} {what}" for path, what in places if path.exists()]
    seconds = sum(metrics.get("timing", {}).values())
    return [*lines, f"{'in':<32} {duration(seconds)} of work"] if seconds else lines


def figures(metrics: dict[str, Any]) -> list[str]:
    """Perplexity before and after, the share kept, and what the corpus does to the assistant."""
    lines = (_perplexity(metrics), _kept(metrics), _loss(metrics), *_character(metrics))
    return [line for line in lines if line]


def conversation_lines(run: RunFolder) -> list[str]:
    """The shortest curated conversation of two rounds or more that the user ended."""
    chosen = shortest_whole(run.curated)
    if chosen is None:
        return []
    lines = [f"{m.role:>9}: {_shortened(m.content)}" for m in chosen.turns]
    return [*lines, f"{'(end)':>10} {chosen.stop_reason}"]


def shortest_whole(curated: Path) -> Conversation | None:
    """A conversation short enough to show that still has an exchange in it; None without any."""
    try:
        paths = sorted(curated.glob("part-*.parquet"))[:1]
        found = [c for path in paths for c in read_conversations(path)]
    except InputError:
        return None
    several = [c for c in found if c.num_rounds >= 2] or found
    finished = [c for c in several if c.stop_reason == "user_ended" and not c.cut_turns] or several
    return min(finished, key=lambda c: sum(len(m.content) for m in c.messages), default=None)


def next_commands(run: RunFolder) -> list[str]:
    """Three commands to try."""
    commands = [
        (f"dashboard {run.root.parent}", "read every conversation, kept and rejected"),
        ("run name=mine ingest.source=my.jsonl", "the same with your own conversations"),
        ("run --recipe usergpt-1gpu", "the same on a GPU, at another scale"),
    ]
    lines = [f"{program()} {command:<40} {what}" for command, what in commands]
    return [*lines, f"open {run.report} in a browser: the quality of all of it, drawn"]


def program() -> str:
    """What to type to start this command in the person's shell."""
    return "realchat" if shutil.which("realchat") else shown_path(Path(sys.argv[0]))


def shown_path(path: Path) -> str:
    """A path as short as it can be said from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and here in path.parents else str(path)


def _perplexity(metrics: dict[str, Any]) -> str:
    before = _at(metrics, "user_model", "perplexity", "before")
    after = _at(metrics, "user_model", "perplexity", "after")
    if not before or not after:
        return ""
    return (
        f"{before:.1f} -> {after:.1f}".ljust(18)
        + f"perplexity of UserGPT on people it never met ({_percent(after / before - 1)})"
    )


def _character(metrics: dict[str, Any]) -> list[str]:
    """What changed from the prompted base to the trained character."""
    from pipelines.character_part import answers

    found = answers(metrics.get("interview", {}))
    rows = [row for row in found if "points" in row.change]
    return [f"{r.change.split(' [')[0]:<18}{r.title.lower()}, the character" for r in rows]


def _kept(metrics: dict[str, Any]) -> str:
    share = _at(metrics, "curate", "kept_share")
    made = _at(metrics, "simulate", "conversations")
    if share is None or made is None:
        return ""
    return f"{share:.0%}".ljust(18) + f"of {made:,} simulated conversations survive curation"


def _loss(metrics: dict[str, Any]) -> str:
    change = _at(metrics, "assistant", "loss", "real", "difference", "mean")
    if change is None:
        return ""
    low, high = (
        _at(metrics, "assistant", "loss", "real", "difference", k, default=change)
        for k in ("low", "high")
    )
    return (
        f"{change:+.3f} nat".ljust(18)
        + f"loss on real answers after training on the corpus [{low:+.3f}, {high:+.3f}]"
    )


def _percent(share: float) -> str:
    return f"{share:+.0%}".replace("-", "\N{MINUS SIGN}")


def _at(table: Any, *keys: str, default: Any = None) -> Any:
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    return default if table is None else table


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)]) if lines else ""


def _shortened(text: str) -> str:
    flat = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    return flat.replace("\n", "\n" + " " * 13)
