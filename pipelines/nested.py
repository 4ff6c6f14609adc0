"""Tables inside tables, and the dotted keys that name places in them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml


def part_of(table: Mapping[str, Any], key: str) -> Any:
    """What stands under a dotted key."""
    found: Any = table
    for name in key.split("."):
        found = found[name]
    return found


def without(table: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A copy of nested tables that lacks the dotted keys."""
    result = copied(table)
    for key in keys:
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place[parent]
        del place[last]  # a key that is not there is a mistake in the stage table
    return result


def copied(value: Mapping[str, Any]) -> dict[str, Any]:
    """Tables anew, all the way down; the values in them are the same."""
    return {k: copied(v) if isinstance(v, dict) else v for k, v in value.items()}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Readable lines `key: old -> new` of the values in which two recipes differ."""
    before, after = dict(flat(old)), dict(flat(new))
    return [
        f"{key}: {_shown(before, key)} -> {_shown(after, key)}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key) or (key in before) != (key in after)
    ]


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables with their dotted keys."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return yaml_inline(flat[key]) if key in flat else "(not set)"


def yaml_inline(value: Any) -> str:
    """A value as it would stand in a recipe, on one line of at most 60 characters."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    text = text.removesuffix("...\n").strip()
    return text if len(text) <= 60 else text[:57] + "..."
