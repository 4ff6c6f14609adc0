"""Settings: the checked, frozen tables that a recipe is made of. Each stage defines its own."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """Base of every recipe table: unknown keys are refused, values do not change.

    A table that names some keys of an inner table leaves its others as they were by default there,
    which need not be what they are by default elsewhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_inner_defaults(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {name: _on_top_of(cls._default_of(name), value) for name, value in given.items()}

    @classmethod
    def _default_of(cls, name: str) -> Any:
        field = cls.model_fields.get(name)
        return field.get_default(call_default_factory=True) if field else None


def _on_top_of(default: Any, value: Any) -> Any:
    """The given table with the keys that it does not name; anything else as it is."""
    if not isinstance(default, Settings) or not isinstance(value, Mapping):
        return value
    named = {name: getattr(default, name) for name in type(default).model_fields}
    return named | {name: _on_top_of(named.get(name), inner) for name, inner in value.items()}
