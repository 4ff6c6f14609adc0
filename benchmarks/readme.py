"""Writes a run's conversation and figures into README.md: `python benchmarks/readme.py RUN`."""

import re
import sys
from pathlib import Path
from typing import Any

from pipelines.last_screen import conversation_lines
from pipelines.run_folder import RunFolder

README = Path(__file__).parents[1] / "README.md"


def rows(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """What the demo measured, as (what, figure)."""
    people, user = metrics["ingest"], metrics["user_model"]
    talk, kept, student = metrics["simulate"], metrics["curate"], metrics["assistant"]
    perplexity, loss = user["perplexity"], student["loss"]
    machine, timing = metrics["machine"], metrics["timing"]
    read = people["funnel"][0]
    return [
        (
            "Real people",
            f"{read['in']:,} records, {sum(people['splits'].values()):,} conversations kept",
        ),
        (
            "UserGPT: perplexity on user turns of held-out people",
            f"{perplexity['before']:.1f} before, {perplexity['after']:.1f} after "
            f"{user['training']['tokens']:,} tokens ({perplexity['change']:+.1%})",
        ),
        (
            "Simulated",
            f"{talk['conversations']} conversations of {talk['rounds_mean']:.1f} rounds, "
            f"{talk['truncated_answers']} answers broken off by the token limit, "
            f"{talk['tokens_per_s']['user']:.0f} user + "
            f"{talk['tokens_per_s']['assistant']:.0f} assistant tokens/s",
        ),
        ("Kept by curation", f"{kept['kept']} ({kept['kept_share']:.0%})"),
        *(
            (f"{student['base']}: loss on {kind} held-out answers", change(loss[kind]))
            for kind in ("real", "simulated")
        ),
        (
            "Time",
            f"{sum(timing.values()) / 60:.1f} min: "
            + ", ".join(f"{stage[:-2]} {seconds:.0f} s" for stage, seconds in timing.items()),
        ),
        ("Machine", f"{machine['cpu']}, {machine['cores']} cores, no GPU"),
    ]


def change(loss: dict[str, Any]) -> str:
    """A loss before and after training on the corpus, and their paired difference."""
    before, after, difference = loss["before"], loss["after"], loss["difference"]
    return (
        f"{before['mean']:.3f} before, {after['mean']:.3f} after training on the corpus "
        f"({difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}])"
    )


def conversation(run: RunFolder) -> str:
    """One curated conversation as a text block."""
    return "\n".join(["```text", *conversation_lines(run), "```"])


def table(metrics: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [f"| {what} | {figure} |" for what, figure in rows(metrics)]
    return "\n".join(["| | |", "|---|---|", *lines])


def main(run: RunFolder) -> None:
    """Replace what stands between the markers."""
    text = README.read_text(encoding="utf-8")
    for name, block in {"conversation": conversation(run), "figures": table(run.metrics())}.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        replacement = f"{begin}\n{block}\n{end}"
        text = re.sub(pattern, lambda _, r=replacement: r, text, flags=re.DOTALL)
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(RunFolder(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")))
