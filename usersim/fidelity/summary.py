"""The summary: one row a figure, in the order of the points, for the terminal and for charts."""

from collections.abc import Iterator, Mapping
from typing import Any

Row = dict[str, Any]
POINTS = {
    "perplexity": "1 perplexity",
    "termination": "2 endings",
    "diversity": "3 variety",
    "surface": "4 typing",
    "two_sample": "5 told apart",
    "role_adherence": "6 roles",
    "conditions": "6 conditions",
    "intents": "6 intents",
    "memorisation": "7 memory",
}
"""Titles of the points, by their key in fidelity.json."""


def summary_rows(table: Mapping[str, Any]) -> list[Row]:
    """Rows of `point`, `name`, `unit`, `value`, `low`, `high`, `floor`, `floor_high`, `prompted`.

    `unit` is "", "share", "points", "words", "bit", "error" or "auc"; floors and baselines are
    numbers in the same unit, None where not known. `within`: see `within_of` and `reached`.
    """
    makers = (_perplexity, _endings, _variety, _typing, _apart, _roles, _told, _memory)
    return [row for maker in makers for row in maker(table)]


def _row(point: str, name: str, unit: str, figure: Mapping[str, Any] | None, **more: Any) -> Row:
    found = dict(figure or {}) | more
    prompted = found.get("prompted")
    if isinstance(prompted, Mapping):
        prompted = prompted.get("value", prompted.get("auc"))
    keys = ("value", "low", "high", "floor", "floor_high")
    numbers = {key: found.get(key) for key in keys}
    told = {"prompted": prompted, "within": within_of(found)}
    return {"point": point, "name": name, "unit": unit} | numbers | told


def within_of(figure: Mapping[str, Any]) -> bool | None:
    """A figure's `within`, of a share that of its difference from people's; None where unknown."""
    found: bool | None = figure.get("within", (figure.get("difference") or {}).get("within"))
    return found


def _perplexity(table: Mapping[str, Any]) -> Iterator[Row]:
    found = table.get("perplexity")
    if not found:
        return
    baseline = found.get("prompted") or {}
    ours = found["user_model"]
    whole = {"value": ours["all"], "low": ours["low"], "high": ours["high"]}
    yield _row("perplexity", "all turns", "", whole, prompted=baseline.get("all"))
    for group in ("first", "later"):
        other = (baseline.get(group) or {}).get("value")
        yield _row("perplexity", f"{group} turns", "", ours[group], prompted=other)
    told = {name: one for name, one in found.items() if name.startswith("with_")}
    for name, one in told.items():
        whole = {"value": one["all"], "low": one["low"], "high": one["high"]}
        title = f"all turns, {name.replace('_', ' ')}"
        yield _row("perplexity", title, "", whole, prompted=baseline.get("all"))
    if "change" in ours:
        floor = {"floor": found["floor"]["value"], "floor_high": found["floor"]["high"]}
        yield _row("perplexity", "against the baseline", "error", ours["change"]["all"] | floor)


def _endings(table: Mapping[str, Any]) -> Iterator[Row]:
    found = table.get("termination") or {}
    if "user_model" in found:
        ours, other, floor = (found.get(k) or {} for k in ("user_model", "prompted", "rates"))
        for name, title in {"f1": "F1 of leaving", "auc": "AUC of leaving"}.items():
            yield _row("termination", title, "", ours[name], floor=floor[name]["value"],
                       prompted=(other.get(name) or {}).get("value"))  # fmt: skip
        yield _row("termination", "calibration error", "share", None,
                   value=ours["calibration_error"], floor=floor["calibration_error"],
                   prompted=other.get("calibration_error"))  # fmt: skip
        for rounds, one in found["by_round"].items():
            yield _row("termination", f"P(end) after round {rounds}", "error", one["error"])
    if "rounds" in found:
        yield _row("termination", "rounds, distance", "bit", found["rounds"]["distance"])


def _variety(table: Mapping[str, Any]) -> Iterator[Row]:
    found = table.get("diversity") or {}
    units = {"first_turn_diversity": "points"}
    for name in ("first_turn_diversity", "distinct_openings", "repeated_turns"):
        if name in found:
            title = f"{name.replace('_', ' ')}, difference"
            figure = found[name]["difference"]
            yield _row("diversity", title, units.get(name, "share"), figure)


def _typing(table: Mapping[str, Any]) -> Iterator[Row]:
    found = table.get("surface")
    if not found:
        return
    for group in ("first", "later"):
        for name, one in found["groups"][group]["statistics"].items():
            yield _row("surface", f"{name.replace('_', ' ')}, {group}", "error", one.get("error"))
    for name, figure in found["distances"].items():
        unit = "bit" if "_js_" in name else "words"
        yield _row("surface", f"{name.replace('_', ' ')}, distance", unit, figure)


def _apart(table: Mapping[str, Any]) -> Iterator[Row]:
    found = table.get("two_sample") or {}
    for part in ("first", "later"):
        for name, one in (found.get(part) or {}).items():
            if isinstance(one, Mapping) and "auc" in one:
                yield _row("two_sample", f"{name}, {part} turns", "auc", one,
                           value=one["auc"], within=reached(one))  # fmt: skip


def reached(one: Mapping[str, Any]) -> bool | None:
    """Whether real people are told apart as well, as many of them on each side."""
    value, high = one.get("auc_at_floor_size"), one.get("floor_high")
    return None if value is None or high is None else value <= high


def _roles(table: Mapping[str, Any]) -> Iterator[Row]:
    found = table.get("role_adherence") or {}
    for name in ("confusion", "taken_for_assistant", "broken_down"):
        if found.get(name):
            yield _row("role_adherence", name.replace("_", " "), "share", found[name])
    if found.get("confusion_of_attempts") is not None:
        value = found["confusion_of_attempts"]
        yield _row("role_adherence", "confusion of attempts", "share", None, value=value)


def _told(table: Mapping[str, Any]) -> Iterator[Row]:
    for point in ("conditions", "intents"):
        for name, one in (table.get(point) or {}).items():
            if "followed" in one:
                title = f"{name.replace('_', ' ')}, followed (floor: by chance)"
                row = _row(point, title, "share", one)
                yield row | {"value": one["followed"], "floor": one["by_chance"]}


def _memory(table: Mapping[str, Any]) -> Iterator[Row]:
    found = table.get("memorisation") or {}
    for name in ("openers", "turns", "personal_data"):
        if found.get(name):
            yield _row("memorisation", name.replace("_", " "), "share", found[name])
    most = {side: one["most"] for side, one in (found.get("longest") or {}).items()}
    if most:
        yield _row("memorisation", "longest verbatim stretch", "words", None,
                   value=most.get("simulated"), floor=most.get("real"),
                   prompted=most.get("prompted"))  # fmt: skip
