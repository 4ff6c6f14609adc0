"""How like people a run's UserGPT is: every bar with its floor and baseline, as one JSON line.

    python -m benchmarks.usergpt runs/mine             reported on the test people
    python -m benchmarks.usergpt runs/mine --dev       while tuning: on the dev people
    python -m benchmarks.usergpt runs/mine --turns     in a minute: what turns alone show, asking
                                                       no model; nothing is kept
    python -m benchmarks.usergpt runs/mine --people    training people in place of simulated users:
                                                       which bars do people themselves reach?

What was measured stays in the run as fidelity.json (or fidelity-dev.json), with its page; `--again`
measures anew. Nothing may be chosen by what this says of test people.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from pipelines.fidelity import FidelityOptions, measure
from pipelines.fidelity_page import write_page
from usersim.fidelity.bars import bars
from usersim.fidelity.measure import Material, MeasureSettings
from usersim.fidelity.measure import measured as measured_on
from usersim.fidelity.persons import Person, conversations_of, persons_of, shuffled
from usersim.fidelity.two_sample import TwoSampleSettings
from usersim.files import read_conversations, read_json, write_json


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--dev", action="store_true", help="hold it against the dev people")
    parser.add_argument("--turns", action="store_true", help="ask no model, look at turns alone")
    parser.add_argument("--people", action="store_true", help="real people as simulated users")
    parser.add_argument("--splits", type=int, default=5, help="draws behind the classifiers' floor")
    parser.add_argument("--again", action="store_true", help="measure though it was measured")
    parser.add_argument("--limit", type=int, default=300, help="persons of each side")
    parser.add_argument("--baseline", type=int, default=100, help="conversations of the baseline")
    return parser.parse_args()


def people_as_users(asked: argparse.Namespace) -> dict[str, Any]:
    """The table of some training people against others; no model has a part in it."""
    people = shuffled(persons_of(read_conversations(asked.run / "people" / "train.parquet")))
    size = min(asked.limit, len(people) // 3)
    users, real, others = people[:size], people[size : 2 * size], people[2 * size :]
    return turns_alone(asked, real, users, others)


def simulated_users(asked: argparse.Namespace, split: str) -> dict[str, Any]:
    """The table of the run's simulated users, as far as their turns alone show it."""
    folder = asked.run / "people"
    real, train = (
        persons_of(read_conversations(folder / f"{s}.parquet")) for s in (split, "train")
    )
    made = [c for path in sorted(asked.run.glob("conversations/*.parquet"))
            for c in read_conversations(path)]  # fmt: skip
    return turns_alone(asked, shuffled(real)[: asked.limit], persons_of(made), train)


def turns_alone(
    asked: argparse.Namespace, real: list[Person], users: list[Person], others: list[Person]
) -> dict[str, Any]:
    """The table of `users` against `real` people; `others` are those whom users learned from."""
    settings = MeasureSettings(two_sample=TwoSampleSettings(splits=asked.splits))
    material = Material(real=real, simulated=users, training=conversations_of(others))
    held = {"reference": real, "simulated": users}
    sides = {name: {"conversations": len(conversations_of(side))} for name, side in held.items()}
    return measured_on(material, settings) | {"about": sides}


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """The fidelity table of the run."""
    if asked.people:
        return people_as_users(asked)
    split = "dev" if asked.dev else "test"
    if asked.turns:
        return simulated_users(asked, split)
    out = asked.run / ("fidelity-dev.json" if asked.dev else "fidelity.json")
    if out.is_file() and not asked.again:
        table: dict[str, Any] = read_json(out)
        return table
    options = FidelityOptions(
        user_model=str(asked.run),
        reference=str(asked.run / "people" / f"{split}.parquet"),
        simulated=asked.run,
        out=out,
        limit=asked.limit,
        baseline=asked.baseline,
        splits=asked.splits,
    )
    table = measure(options)
    write_json(out, table)
    write_page(out.with_suffix(".html"), table)
    return table


def main() -> None:
    """Print the bars, worst news first on stderr, all of them as JSON on stdout."""
    asked = arguments()
    table = measured(asked)
    metrics = read_json(asked.run / "metrics.json")
    found = bars(table, (metrics.get("user_model") or {}).get("training") or {})
    for bar in sorted(found, key=lambda b: (b.holds is not False, b.holds is not None, b.name)):
        state = {True: "holds", False: "FAILS", None: "not known"}[bar.holds]
        if bar.holds is False and bar.floor_holds is False:
            state = "as people"  # who miss it too, halved
        print(f"{state:>9}  {bar.name}: {bar.value} (bound {bar.bound}, floor {bar.floor}, "
              f"baseline {bar.baseline}) {bar.note}", file=sys.stderr)  # fmt: skip
    result = {
        "benchmark": "usergpt",
        "people": "training" if asked.people else "dev" if asked.dev else "test",
        "about": table["about"],
        "bars": [bar.to_dict() for bar in found],
        "hold": sum(bar.holds is True for bar in found),
        "fail": sum(bar.holds is False for bar in found),
        "not_known": sum(bar.holds is None for bar in found),
        "people_miss": [bar.name for bar in found if bar.floor_holds is False],
        "told_by": {
            part: [word["word"] for word in table["two_sample"][part]["words"]["too_often"][:10]]
            for part in ("first", "later")
            if table.get("two_sample")
        },
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
