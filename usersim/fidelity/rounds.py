"""How long conversations are, in rounds, beside how long people's are."""

from collections.abc import Sequence
from typing import Any

from usersim.fidelity.designs import Compared, Design, Summary, jensen_shannon, sums_of
from usersim.fidelity.persons import Person, conversations_of
from usersim.surface import ROUNDS_SHOWN, rounds_cap

DEFINITION = (
    "Jensen-Shannon divergence of the distributions of rounds, in bits, when nobody talks longer "
    "than the simulation's cap"
)


def rounds_figures(
    simulated: Sequence[Person], real: Sequence[Person], prompted: Sequence[Person] = ()
) -> dict[str, Any]:
    """How long conversations are: shares by rounds of each side, `cap`, `distance` (a figure).

    Above ROUNDS_SHOWN rounds are pooled; see DEFINITION.
    """
    sides = {"simulated": simulated, "prompted": prompted}
    cap = rounds_cap(conversations_of(simulated))
    table: dict[str, Any] = {"cap": cap, "real": _shares(real, None), "real_to_cap": None}
    table["real_to_cap"] = _shares(real, cap) if cap else None
    for name, side in sides.items():
        table[name] = _shares(side, None) if side else None
        if not side:
            continue
        found = Compared.of(
            Design.of(side, real), _histogram(side, cap), _histogram(real, cap), jensen_shannon
        ).settled()
        if name == "simulated":
            table["distance"] = found.figure(0)
        else:
            table.setdefault("distance", {})["prompted"] = found.plain_figure(0)
    return table


def _rounds_of(persons: Sequence[Person], cap: int | None) -> list[tuple[int, int]]:
    return [
        (number, min(c.num_rounds, cap or ROUNDS_SHOWN, ROUNDS_SHOWN))
        for number, person in enumerate(persons)
        for c in person.conversations
    ]


def _histogram(persons: Sequence[Person], cap: int | None) -> Summary:
    import numpy as np

    rows = _rounds_of(persons, cap)
    bins = np.zeros((len(rows), ROUNDS_SHOWN + 1))
    bins[np.arange(len(rows)), [rounds for _, rounds in rows]] = 1
    sums = sums_of(len(persons), [person for person, _ in rows], bins)
    return lambda weights: weights @ sums


def _shares(persons: Sequence[Person], cap: int | None) -> dict[str, float]:
    import numpy as np

    counts = _histogram(persons, cap)(np.ones((1, len(persons))))[0]
    first = 0 if counts[0] else 1
    return {
        str(n): round(float(counts[n] / counts.sum()), 4) for n in range(first, ROUNDS_SHOWN + 1)
    }
