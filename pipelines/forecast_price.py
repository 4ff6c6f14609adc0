"""What the tokens of a forecast cost at endpoints: by role, at the recipe's prices or at others."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.forecast_model import Said
from usersim.conversation import Role
from usersim.engines import Price

if TYPE_CHECKING:
    from pipelines.recipe import Recipe

GIVEN = "as given"
"""Stands for the currency of prices that were named without one."""


def usage_of(
    talks: Sequence[Sequence[Said]], prompt_tokens: float, scale: float
) -> dict[Role, dict[str, int]]:
    """Prompt, cached and completion tokens by role, times `scale`; refused completions too.

    `prompt_tokens` are a completion's, cached ones included. A server is taken to have cached
    whatever of them is not new.
    """
    used: dict[Role, dict[str, int]] = {}
    for role in ("user", "assistant"):
        mine = [said for talk in talks for said in talk if said.role == role]
        prompt = max(prompt_tokens * len(mine), new := sum(said.prompt for said in mine))
        used[role] = {
            "prompt": round(scale * prompt),
            "cached": round(scale * (prompt - new)),
            "completion": round(scale * sum(said.tokens for said in mine)),
        }
    return used


def charged(
    recipe: "Recipe", usage: Mapping[Role, Mapping[str, int]], asked: Price | None
) -> dict[str, float]:
    """Money by currency: each role by its own price; `asked` is for endpoints that have none."""
    money: dict[str, float] = {}
    for role, used in usage.items():
        engine = recipe.engines.user if role == "user" else recipe.engines.assistant
        price = engine.price or (asked if engine.kind == "endpoint" else None)
        if price is not None:
            money[price.currency] = money.get(price.currency, 0.0) + price.of(**used)
    return money
