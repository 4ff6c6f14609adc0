"""What balance drops of the conversations that lie judged on disk: columns are read, not rows."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.balance import Members, surplus
from pipelines.curate_figures import BALANCE, Drop
from pipelines.curate_settings import CurateSettings
from pipelines.dedup import groups_alike
from pipelines.judge_shards import ShardJudging
from pipelines.near import Resemblance
from pipelines.realism import check_fits, most_tellable
from pipelines.spread import Spread
from usersim.conversation import Conversation
from usersim.files import read_conversations
from usersim.shingling import Shingling

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

Between = Callable[[int, int], dict[int, Drop]]
"""What goes among the places from one to before another."""


def surplus_of(
    tasks: Sequence[ShardJudging],
    places: "NDArray[np.int64]",
    settings: CurateSettings,
    people: Path | None,
    spread: Spread,
) -> "tuple[NDArray[np.int64], Between]":
    """The places that caps and the shape of rounds take away, and why."""
    import numpy as np

    def clusters() -> "tuple[NDArray[np.int32], Callable[[NDArray[np.int64]], str]]":
        shape = Shingling(settings.dedup.shingle_words)
        resemblance = Resemblance("opener", settings.balance.opener_similarity, 0.0, shape)
        found = groups_alike([task.part for task in tasks], resemblance, places, spread)

        def name(members: "NDArray[np.int64]") -> str:
            ids = column_of(tasks, "id", places[members]).to_pylist()
            return f"the cluster of {min(ids)}"

        return found.astype(np.int32), name

    chosen, rounds = settings.balance, Counter[int]()
    if chosen.rounds == "as_people":
        rounds.update(c.num_rounds for c in known(people))
    if not (rounds or chosen.limits):
        return places[:0], lambda start, stop: {}
    gone = surplus(_members(tasks, places), chosen, rounds, clusters)

    def between(start: int, stop: int) -> dict[int, Drop]:
        low, high = np.searchsorted(places, [start, stop])
        why = gone.why[low:high]
        hit = np.flatnonzero(why >= 0)
        rows = zip(places[low:high][hit].tolist(), why[hit].tolist(), strict=True)
        return {place: Drop(BALANCE, *gone.told[number]) for place, number in rows}

    return places[gone.why >= 0], between


def tellable_of(
    tasks: Sequence[ShardJudging],
    places: "NDArray[np.int64]",
    share: float,
    people: Path | None,
) -> "tuple[NDArray[np.int64], Between]":
    """The share of the places that a classifier tells most surely from people.

    Raises InputError for more than can be read at once.
    """
    import numpy as np

    if not share:
        return places[:0], lambda start, stop: {}
    check_fits(len(places))
    left = list(_conversations(tasks, places))
    told = most_tellable(left, known(people), share)
    drops = {
        place: Drop(BALANCE, "tellable", f"log odds of being simulated: {told[c.id]:.2f}")
        for place, c in zip(places.tolist(), left, strict=True)
        if c.id in told
    }
    gone = np.array(list(drops), dtype=np.int64)
    return gone, lambda start, stop: {p: d for p, d in drops.items() if start <= p < stop}


def known(people: Path | None) -> list[Conversation]:
    """The training people of the run; none where UserGPT came from elsewhere."""
    train = people / "train.parquet" if people else None
    return read_conversations(train) if train and train.is_file() else []


def column_of(
    tasks: Sequence[ShardJudging], name: str, places: "NDArray[np.int64]"
) -> "pa.ChunkedArray":
    """A column of the verdicts at some places, in their order."""
    import numpy as np
    import pyarrow as pa

    order, chunks, start = np.argsort(places, kind="stable"), [], 0
    ordered = places[order]
    for task in tasks:
        column = task.column(name)
        low, high = np.searchsorted(ordered, [start, start + len(column)])
        chunks += column.take(ordered[low:high] - start).chunks
        start += len(column)
    column = pa.chunked_array(chunks, type=tasks[0].column(name).type)
    return column if (ordered == places).all() else column.take(np.argsort(order))


def _members(tasks: Sequence[ShardJudging], places: "NDArray[np.int64]") -> Members:
    import numpy as np
    import pyarrow as pa

    def codes(name: str) -> "tuple[NDArray[np.int32], pa.Array]":
        column = column_of(tasks, name, places).combine_chunks().dictionary_encode()
        return column.indices.fill_null(-1).to_numpy(zero_copy_only=False), column.dictionary

    draw, rounds = (column_of(tasks, name, places).to_numpy() for name in ("draw", "rounds"))
    (intent, intents), (persona, personas) = codes("intent"), codes("persona")
    names = pa.concat_arrays([intents, personas])
    persona = np.where(persona < 0, persona, persona + len(intents)).astype(np.int32)
    return Members(draw, rounds, intent, persona, names)


def _conversations(
    tasks: Sequence[ShardJudging], places: "NDArray[np.int64]"
) -> Iterator[Conversation]:
    import numpy as np

    start = 0
    for task in tasks:
        held = task.conversations()
        low, high = np.searchsorted(places, [start, start + len(held)])
        yield from (held[place - start] for place in places[low:high].tolist())
        start += len(held)
