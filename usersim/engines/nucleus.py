"""Sampling for vLLM on the CPU: the nucleus' own distribution, without sorting the vocabulary.

vLLM's own top-p sorts all logits of every row, which on a CPU takes about as long as a small model
itself (`python -m benchmarks.engine_options --only "vLLM's top-p"` measures it).
Here a row's probabilities are taken under the whole row's normaliser, and the nucleus is found
among the tokens near its best one, by compiled loops (see `nucleus_kernel`); it is the exact one.
Each draw needs one uniform number, a hash of (seed, position), so that it does not depend on what
else is in the batch.

**Ends outside the nucleus.** A turn may end after any word, mostly with a probability below 10 %:
at a top-p of 0.9 that is cut off at many places, and a model of people who type "yes" or break off
without a full stop writes on. With `ends`, whether to stop is drawn from the model's own
probability, and only what to say from the nucleus of all other tokens.

The engine's process loads this module by name; nothing else imports it.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 - loaded inside the engine's process only
import torch  # noqa: TID253
from vllm.v1.sample.logits_processor.builtin import process_dict_updates  # noqa: TID253
from vllm.v1.sample.logits_processor.interface import LogitsProcessor  # noqa: TID253

from usersim.engines.nucleus_kernel import draw_rows

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor.interface import BatchUpdate

CHOSEN = 1e30
"""The chosen token's logit: above every other, and still finite."""
KEY = "nucleus"


@dataclass(frozen=True, slots=True)
class Draw:
    """How one request's tokens are drawn."""

    temperature: float
    top_p: float
    seed: int
    so_far: list[int]
    """The request's tokens so far; vLLM keeps it up to date."""
    ends: tuple[int, ...] = ()
    """Tokens that end a completion, where they are drawn outside the nucleus."""

    def uniform(self) -> float:
        """The number in [0, 1) that decides the next token."""
        digest = hashlib.blake2b(f"{self.seed} {len(self.so_far)}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64


class NucleusDraw(LogitsProcessor):  # type: ignore[misc]
    """Draws the next token of requests that carry `extra_args={"nucleus": [T, top_p, seed, ends]}`.

    Such requests are sent as greedy ones; the drawn token's logit is raised above all others. Runs
    after vLLM's logit bias and before its penalties, which must therefore be off.
    """

    def __init__(
        self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool
    ) -> None:
        self._draws: dict[int, Draw] = {}
        draw_tokens(torch.zeros(1, 2), [Draw(1.0, 1.0, 0, [])])  # compiled now, not at a turn

    def is_argmax_invariant(self) -> bool:
        """It decides the argmax."""
        return False

    def update_state(self, batch_update: "BatchUpdate | None") -> None:
        """Follow requests as they come, go and move in the batch."""
        process_dict_updates(self._draws, batch_update, _draw_of)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Raise one drawn token's logit in every row that asks for it."""
        rows = [row for row in sorted(self._draws) if row < logits.shape[0]]
        if not rows:
            return logits
        draws = [self._draws[row] for row in rows]
        wanted = logits if len(rows) == logits.shape[0] else logits[rows]
        logits[rows, draw_tokens(wanted, draws)] = CHOSEN
        return logits


def _draw_of(params: "SamplingParams", prompt: list[int] | None, so_far: list[int]) -> Draw | None:
    given = (params.extra_args or {}).get(KEY)
    if not given:
        return None
    temperature, top_p, seed, ends = given
    return Draw(temperature, top_p, seed, so_far, tuple(ends))


def draw_tokens(logits: torch.Tensor, draws: list[Draw]) -> torch.Tensor:
    """One token id a row: `logits` is (rows, vocabulary), the result (rows,)."""
    temperature = torch.tensor([d.temperature for d in draws], dtype=torch.float32)
    scaled = logits.float()
    if not bool((temperature == 1).all()):
        scaled = scaled / temperature[:, None]
    most = max(len(draw.ends) for draw in draws)
    ends = [[*draw.ends, *[-1] * (most - len(draw.ends))] for draw in draws]
    drawn = draw_rows(
        scaled.contiguous().numpy(),
        scaled.amax(dim=-1).numpy(),
        torch.logsumexp(scaled, dim=-1).double().numpy(),
        np.array([draw.top_p for draw in draws]),
        np.array([draw.uniform() for draw in draws]),
        np.array(ends, dtype=np.int64).reshape(len(draws), most),
    )
    return torch.from_numpy(drawn)
