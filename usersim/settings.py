"""Settings: the checked, frozen tables that a recipe is made of. Each stage defines its own."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of every recipe table: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
