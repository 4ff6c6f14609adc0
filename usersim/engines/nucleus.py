"""Sampling for vLLM on the CPU: the nucleus' own distribution, without sorting the vocabulary.

vLLM's own top-p sorts all logits of every row, which on a CPU takes about as long as a small model
itself (`python -m benchmarks.engine_options --only "vLLM's top-p"` measures it).
Here the likeliest `CANDIDATES` tokens of a row are found by a partial selection; their
probabilities are taken under the whole row's normaliser, so that the nucleus among them is the
exact one. A row whose nucleus is larger than that is looked at again with `WIDER` times as many, up
to the whole vocabulary. Each draw needs one uniform number, a hash of (seed, position), so that it
does not depend on what else is in the batch.

**Ends outside the nucleus.** A turn may end after any word, mostly with a probability below 10 %:
at a top-p of 0.9 that is cut off at many places, and a model of people who type "yes" or break off
without a full stop writes on. With `ends`, whether to stop is drawn from the model's own
probability, and only what to say from the nucleus of all other tokens.

The engine's process loads this module by name; nothing else imports it.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch  # noqa: TID253 - loaded inside the engine's process only
from vllm.v1.sample.logits_processor.builtin import process_dict_updates  # noqa: TID253
from vllm.v1.sample.logits_processor.interface import LogitsProcessor  # noqa: TID253

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor.interface import BatchUpdate

CANDIDATES = 256
WIDER = 16
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


def draw_tokens(
    logits: torch.Tensor, draws: list[Draw], candidates: int = CANDIDATES
) -> torch.Tensor:
    """One token id a row: `logits` is (rows, vocabulary), the result (rows,)."""
    temperature = torch.tensor([d.temperature for d in draws], dtype=torch.float32)
    scaled = logits.float() / temperature[:, None]
    uniform = torch.tensor([d.uniform() for d in draws], dtype=torch.float64)
    ended = _end_or_stretch(scaled, draws, uniform)
    top_p = torch.tensor([d.top_p for d in draws], dtype=torch.float64)
    chosen = _from_nucleus(scaled, top_p, uniform, candidates)
    return torch.where(ended >= 0, ended, chosen)


def _end_or_stretch(scaled: torch.Tensor, draws: list[Draw], uniform: torch.Tensor) -> torch.Tensor:
    """The end that a row's number falls on, or -1; all other numbers are stretched over [0, 1).

    `scaled` then holds no end any more, and `uniform` the stretched numbers.
    """
    ended = torch.full((len(draws),), -1, dtype=torch.long)
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, draw in enumerate(draws):
        if draw.ends:
            groups.setdefault(draw.ends, []).append(row)
    for ends, members in groups.items():
        rows, ids = torch.tensor(members), torch.tensor(ends)
        logits = scaled[rows]
        normaliser = torch.logsumexp(logits, dim=-1, keepdim=True)
        reached = (logits[:, ids] - normaliser).double().exp().cumsum(dim=-1)
        number, all_ends = uniform[rows], reached[:, -1]
        falls_on = (reached <= number[:, None]).sum(dim=-1)
        stops = falls_on < len(ends)
        ended[rows[stops]] = ids[falls_on[stops]]
        # Never 1 and above, even where rounding leaves nothing but ends.
        stretched = ((number - all_ends) / (1 - all_ends).clamp(min=1e-12)).clamp(0, 1 - 1e-12)
        uniform[rows] = torch.where(stops, number, stretched)
        scaled[rows[:, None], ids] = -CHOSEN
    return ended


def _from_nucleus(
    scaled: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor, candidates: int
) -> torch.Tensor:
    """One token id a row, from the nucleus of its scaled logits."""
    normaliser = torch.logsumexp(scaled, dim=-1, keepdim=True)
    best, tokens = scaled.topk(min(candidates, scaled.shape[-1]), dim=-1)
    reached = (best - normaliser).double().exp().cumsum(dim=-1)
    chosen = tokens.gather(1, _pick(reached, top_p, uniform)[:, None])[:, 0]
    if candidates < scaled.shape[-1]:
        short = (reached[:, -1] < top_p).nonzero()[:, 0]
        if len(short):
            chosen[short] = _from_nucleus(
                scaled[short], top_p[short], uniform[short], candidates * WIDER
            )
    return chosen


def _pick(reached: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Rank drawn from the smallest set of likeliest tokens that reaches `top_p`, a row."""
    last = (reached < top_p[:, None]).sum(dim=-1, keepdim=True).clamp_(max=reached.shape[-1] - 1)
    mass = reached.gather(1, last)
    rank = (reached <= uniform[:, None] * mass).sum(dim=-1, keepdim=True)
    return torch.minimum(rank, last)[:, 0]
