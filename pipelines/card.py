"""The dataset card: YAML for the Hub, then what the corpus is, what made it, and its limits.

The YAML is dumped by PyYAML and the body filled by Jinja from values; text that a model wrote is
never part of a template, and stands in a code fence longer than any run of backticks in it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from usersim.files import fingerprint

if TYPE_CHECKING:
    from pipelines.corpus import CorpusSettings

TEMPLATE = Path(__file__).with_name("card.md")

# Upper bounds of the Hub's `size_categories`.
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
          (10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))  # fmt: skip

# Licenses that the Hub knows by these names (its documentation's list, those fit for data).
HUB_LICENSES = frozenset([
    "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "c-uda", "cc", "cc0-1.0",
    "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "gfdl", "gemma", "gpl-3.0",
    "lgpl-3.0", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "odbl", "odc-by",
    "openrail", "pddl", "unlicense", "wtfpl", "unknown", "other",
])  # fmt: skip

EXAMPLE_TURNS = 8
EXAMPLE_CHARS = 600  # of one turn: a card is read on a phone


def render_card(
    settings: "CorpusSettings",
    figures: Mapping[str, Any],
    facts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> str:
    """The text of README.md.

    Args:
        settings: Name, license and languages.
        figures: What `build_corpus` counted.
        facts: What made the corpus (see `build_corpus`), and `dropped`, the reasons' counts.
        rows: Conversations (`id`, `messages`) from which the example is taken.
    """
    from jinja2 import Environment, StrictUndefined

    # The card is Markdown, in which HTML escaping would be wrong; `cell` and the fence escape.
    environment = Environment(
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "bibtex": bibtex}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    tables: tuple[str, ...] = (
        "fidelity", "funnel", "figures", "versions", "dropped", "contamination", "memorisation",
        "mended", "revisions", "charts",
    )  # fmt: skip
    absent: dict[str, Any] = {"recipe": None, "seed": None} | {name: {} for name in tables}
    body = template.render(
        settings=settings,
        figures=figures,
        facts=absent | dict(facts),
        models=_models(figures, facts),
        example=example(rows),
    )
    return f"---\n{front_matter(settings, figures)}---\n\n{body.strip()}\n"


def front_matter(settings: "CorpusSettings", figures: Mapping[str, Any]) -> str:
    """The card's metadata as YAML, in the Hub's vocabulary."""
    known = settings.license in HUB_LICENSES
    table: dict[str, Any] = {"license": settings.license if known else "other"}
    if not known:
        table["license_name"] = settings.license
    table |= {
        "language": list(settings.languages),
        "pretty_name": settings.name,
        "size_categories": [size_category(figures["conversations"])],
        "task_categories": ["text-generation"],
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated"],
        "tags": ["synthetic", "conversational", "user-simulator", "realchat"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"data/{split}-*"} for split in figures["splits"]
                ],
            },
            *(
                {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/train-*"}]}
                for name in subsets_of(figures)
            ),
        ],
    }
    table["dataset_info"] = dataset_info(figures)
    return yaml.safe_dump(table, sort_keys=False, allow_unicode=True)


def subsets_of(figures: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The subsets beside the conversations that have rows, with their sizes."""
    return {name: sizes for name, sizes in figures.get("subsets", {}).items() if sizes}


def dataset_info(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Sizes of every subset's splits, in rows and bytes.

    Not for show: `datasets` caches a local folder under its name and its card's metadata alone, and
    every run's folder is called `corpus`. Without these sizes the second run's corpus would load as
    the first one's rows.
    """
    sizes = figures["split_bytes"]
    splits = [
        {"name": name, "num_bytes": sizes[name], "num_examples": rows}
        for name, rows in figures["splits"].items()
    ]
    default = {
        "config_name": "default",
        "splits": splits,
        "download_size": figures["bytes"],
        "dataset_size": sum(sizes.values()),
    }
    return [default, *(_subset_info(name, s) for name, s in subsets_of(figures).items())]


def _subset_info(name: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    split = {"name": "train", "num_bytes": sizes["num_bytes"], "num_examples": sizes["rows"]}
    return {
        "config_name": name,
        "splits": [split],
        "download_size": sizes["bytes"],
        "dataset_size": sizes["num_bytes"],
    }


def size_category(n: int) -> str:
    """The Hub's word for a number of rows."""
    return next((name for bound, name in _SIZES if n < bound), "n>1T" if n > 10**12 else "1B<n<10B")


def cell(value: Any) -> str:
    """A value as text that cannot break out of a Markdown table or become markup."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = " ".join(_printable(text).split())
    return re.sub(r"([\\`*\[\]<>#|~]|(?<!\w)_|_(?!\w))", r"\\\1", text) or "-"


def bibtex(value: Any) -> str:
    """A value as text that can end neither its braces nor the code block around them."""
    return " ".join(re.sub(r"[{}\\`%#$&~^]", " ", _printable(str(value))).split())


def example(rows: Sequence[Mapping[str, Any]]) -> str:
    """One conversation in a code fence that its own text cannot close.

    The choice is stable: the number of turns nearest to six, then a hash of the id.
    """
    row = min(rows, key=lambda r: (abs(len(r["messages"]) - 6), fingerprint(r["id"])))
    turns = [f"[{m['role']}]\n{_clipped(m['content'])}" for m in row["messages"][:EXAMPLE_TURNS]]
    if len(row["messages"]) > EXAMPLE_TURNS:
        turns.append("[...]")
    text = _printable("\n\n".join(turns))
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _models(figures: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """Who spoke, by role: what the rows say; where they say nothing, what the run says."""
    stated = facts.get("models", {})
    found = {role: ", ".join(names) for role, names in figures["models"].items() if names}
    return {
        role: found.get(role) or str(stated.get(role, "not stated")) for role in figures["models"]
    }


def _clipped(text: str) -> str:
    return text if len(text) <= EXAMPLE_CHARS else text[:EXAMPLE_CHARS].rstrip() + " [...]"


def _printable(text: str) -> str:
    """Without control characters, lone surrogates and foreign line ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", "", text)
