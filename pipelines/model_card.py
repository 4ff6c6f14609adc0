"""The card of a trained model: what it learnt from, under which license, its figures, its limits.

Like the corpus' card, it is filled from values: YAML by PyYAML, the body by Jinja.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipelines.card import cell
from pipelines.licensing import Permission

if TYPE_CHECKING:
    from pipelines.recipe import Recipe

TEMPLATE = Path(__file__).with_name("model_card.md")


def render_model_card(
    about: Mapping[str, Any],
    metrics: Mapping[str, Any],
    recipe: "Recipe",
    repo: str,
    given: Permission,
) -> str:
    """The text of README.md.

    Args:
        about: The checkpoint's realchat.json: whose turn it opens, its base, its figures.
        metrics: The run's metrics.json; every part of it may be absent.
        recipe: What the run was made with.
        repo: `owner/name` under which the model is published.
        given: Its license and the ledger of what it was made of.
    """
    from jinja2 import Environment, StrictUndefined

    # Markdown, in which HTML escaping would be wrong; `cell` escapes what comes from outside.
    environment = Environment(
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    is_user = about.get("opens") == "user"
    body = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        is_user=is_user,
        name=f"UserGPT of {recipe.name}" if is_user else f"Assistant of {recipe.name}",
        base=about.get("base", "not stated"),
        repo=repo,
        given=given,
        figures=_figures(about, metrics),
        facts=_facts(recipe, metrics, is_user=is_user),
    )
    return f"---\n{_front_matter(about, recipe, given)}---\n\n{body.strip()}\n"


def public_name(model: str) -> str:
    """A model's name without the folder of the machine that it lies in."""
    is_path = model.startswith((".", "/", "~")) or Path(model).expanduser().exists()
    return Path(model).name if is_path else model


def _front_matter(about: Mapping[str, Any], recipe: "Recipe", given: Permission) -> str:
    table: dict[str, Any] = {"license": given.license}
    if given.license == "other":
        table["license_name"] = "stated-on-this-card"
    base = str(about.get("base", ""))
    if base.count("/") == 1:  # a Hub name; anything else is not to be found there
        table["base_model"] = base
    role = "user-simulator" if about.get("opens") == "user" else "assistant"
    table |= {
        "language": list(recipe.corpus.languages),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["conversational", role, "realchat"],
    }
    return yaml.safe_dump(table, sort_keys=False, allow_unicode=True)


def _figures(about: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Label, before, after: perplexity of people's turns, or loss of answers."""
    rows: list[tuple[str, Any, Any]] = []
    table = about.get("perplexity") or metrics.get("user_model", {}).get("perplexity") or {}
    if about.get("opens") == "user":
        detail = table.get("detail", {})
        before, after = detail.get("before", {}), detail.get("after", {})
        rows.append(("perplexity of held-out people's turns", table.get("before"),
                     table.get("after")))  # fmt: skip
        for label, key in (("of first turns", "first"), ("of later turns", "later")):
            rows.append((f"perplexity {label}", before.get(key), after.get(key)))
    else:
        losses = about.get("loss") or metrics.get("assistant", {}).get("loss") or {}
        for kind, loss in losses.items():
            label = f"loss on held-out {kind} conversations, nats per token [95 % interval]"
            rows.append((label, _interval(loss.get("before")), _interval(loss.get("after"))))
    return [row for row in rows if row[1] is not None and row[2] is not None]


def _interval(value: Mapping[str, float] | None) -> str | None:
    """A mean with its 95 % interval, as text."""
    return None if not value else f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _facts(recipe: "Recipe", metrics: Mapping[str, Any], *, is_user: bool) -> dict[str, Any]:
    training = metrics.get("user_model" if is_user else "assistant", {}).get("training", {})
    facts = {
        "recipe": recipe.fingerprint(),
        "random seed": recipe.seed,
        "training steps": training.get("steps"),
        "trained tokens": training.get("target_tokens"),
        **metrics.get("versions", {}),
    }
    return {label: value for label, value in facts.items() if value is not None}
