"""`fit`: supervised fine-tuning of rows by TRL. One function for UserGPT and for the assistant.

What differs between the two is whose turns are labelled; that was decided when the rows were made.
`usersim.trainer` is the only module that knows TRL.
"""

import random
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from pydantic import Field, model_validator

from usersim.adapters import FOLDER, Adapter, save_adapter
from usersim.chat_format import ChatFormat
from usersim.checkpoints import CARD
from usersim.conversation import Conversation, Role
from usersim.cores import free_cores
from usersim.errors import InputError, WorldError
from usersim.files import fingerprint, read_json, write_json
from usersim.progress import track
from usersim.rows import Row, ViewSettings, conversation_rows
from usersim.settings import Settings
from usersim.trainer import CHECKED, Job, fast_layers, make_trainer


class FitSettings(Settings):
    """How a model is trained. The defaults are measured best for minutes on two CPU cores."""

    view: ViewSettings = ViewSettings()
    train_tokens: int = 40_000
    """Tokens seen in all, context included; more than the data holds means several epochs."""
    lora_rank: int = 16
    """Rank of the adapter on all linear layers, merged when done; 0 trains all weights."""
    learning_rate: float = 1e-3
    """For LoRA; full fine-tuning wants 1e-4 or less (above it forgets faster than it learns)."""
    warmup_share: float = 0.05
    batch_rows: int = 2
    """Rows that make one optimizer step."""
    micro_batch_rows: int = 1
    """Rows that go through the model at once; 1 pads nothing and is fastest on a CPU."""
    windows_per_conversation: int = 2
    """Windows taken from each conversation, from its beginning: minutes of training learn more from
    many people than from all that a few of them typed. 0 takes all."""
    eval_conversations: int = 40
    """Held-out conversations that are scored before and after."""
    processes: int = 0
    """Copies of the model that share each step's rows, one thread or one GPU each; 0: one for each
    GPU or core, as many as a step's rows can be shared out to evenly. On a CPU two copies of one
    thread trained 327 tokens/s where one of two threads made 284 (two quiet cores, one run each):
    threads wait for each other at every operation, processes once a step."""
    checks: int = 0
    """How often held-out people are scored on the way: the best state is kept, and training that
    was interrupted goes on from the last check. 0: never. Characters' trainings have none."""
    compile_from_tokens: int = 50_000
    """On a CPU with a C++ compiler: from so many tokens on the layers are compiled, which takes
    most of a minute and then a quarter off each step."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """Anything else goes to trl.SFTConfig as it is."""

    @model_validator(mode="after")
    def _a_step_is_whole(self) -> "FitSettings":
        at_once = self.micro_batch_rows * max(1, self.processes)
        if self.batch_rows % at_once:
            raise ValueError(
                f"batch_rows={self.batch_rows} is no multiple of {at_once} (micro_batch_rows times "
                "processes): a step would hold other rows than it says"
            )
        return self


@dataclass(frozen=True, slots=True)
class FitFigures:
    """What a training run did."""

    steps: int
    rows: int
    tokens: int
    target_tokens: int
    threads: int
    seconds: float
    losses: list[tuple[int, float]]
    """(tokens seen, mean loss in nats since the last entry)."""
    cpu_seconds: float = 0.0
    """CPU time of all processes."""
    processes: int = 1
    checks: list[tuple[int, float]] = field(default_factory=list)
    """(tokens seen, nats per token of held-out people)."""
    peak_gib: float = 0.0
    """The most memory that one process had, the first of them."""
    tokens_before: int = 0
    """What an interrupted call had trained on; all seconds are of what came after it."""
    target_tokens_before: int = 0
    check_seconds: float = 0.0
    """Of `seconds`, what the checks took."""
    check_cpu_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As it stands in metrics.json. Rates are of training: without its checks."""
        tokens, targets = self.tokens - self.tokens_before, self.target_tokens
        seconds = max(self.seconds - self.check_seconds, 1e-9)
        cpu_seconds = max(self.cpu_seconds - self.check_cpu_seconds, 1e-9)
        return {
            "steps": self.steps,
            "rows": self.rows,
            "tokens": self.tokens,
            "target_tokens": self.target_tokens,
            "processes": self.processes,
            "threads": self.threads,
            "seconds": round(self.seconds, 1),
            "cpu_seconds": round(self.cpu_seconds, 1),
            "peak_memory_gib": round(self.peak_gib, 2),
            "check_seconds": round(self.check_seconds, 1),
            "resumed_at_tokens": self.tokens_before,
            "tokens_per_s": round(tokens / seconds, 1),
            "tokens_per_cpu_s": round(tokens / cpu_seconds, 1),
            "target_tokens_per_s": round((targets - self.target_tokens_before) / seconds, 1),
            "losses": [[tokens, round(loss, 4)] for tokens, loss in self.losses],
            "checks": [[tokens, round(nll, 4)] for tokens, nll in self.checks],
        }


@dataclass(frozen=True, slots=True)
class Checks:
    """Rows of held-out people that are scored on the way, and the folder for what is kept."""

    rows: list[Row]
    folder: Path

    @classmethod
    def beside(
        cls, out: Path, rows: list[Row], learned: Sequence[Row], settings: FitSettings, base: str
    ) -> Self:
        """With a folder beside `out` that is this training's own: another one is no beginning."""
        ids = [row.input_ids for row in learned]
        name = fingerprint([base, settings.model_dump(mode="json"), ids])
        return cls(rows, out.with_name(f".{out.name}.training") / name)

    def clear(self) -> None:
        """Remove what this and earlier trainings to the same place kept, as they are over."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


class Named(Protocol):
    """Anything with an id that rows can be made of: a conversation, a script."""

    @property
    def id(self) -> str:
        """The same in every run."""
        ...


Sample = TypeVar("Sample", bound=Named)


def draw_rows(
    conversations: Sequence[Sample],
    rows_of: Callable[[Sample], list[Row]],
    train_tokens: int,
    seed: int,
) -> list[Row]:
    """Rows of conversations drawn at random, epoch after epoch, that hold `train_tokens` tokens.

    Only what is drawn is tokenised. Raises InputError when no conversation makes a row.
    """
    generator = random.Random(seed)
    order = sorted(conversations, key=lambda c: c.id)
    drawn: list[Row] = []
    total = 0
    while total < train_tokens:
        generator.shuffle(order)
        before = total
        for conversation in order:
            rows = rows_of(conversation)
            drawn += rows
            total += sum(len(row.input_ids) for row in rows)
            if total >= train_tokens:
                break
        if total == before:
            raise InputError("nothing to train on: no conversation has a turn of the labelled side")
    generator.shuffle(drawn)
    return drawn


def windows(
    chat: ChatFormat,
    target: Role,
    settings: FitSettings,
    told: Callable[[Conversation], str] = lambda _: "",
) -> Callable[[Conversation], list[Row]]:
    """What makes the rows of a conversation, as many as the settings take of it.

    `told` is what the user who is learned was told about themselves.
    """

    def first_windows(conversation: Conversation) -> list[Row]:
        rows = conversation_rows(conversation, chat, target, settings.view, told(conversation))
        return rows[: settings.windows_per_conversation or None]

    return first_windows


def load_model(checkpoint: Path, *, training: bool) -> Any:
    """A causal language model in bf16, on the GPU where there is one, else on the free cores.

    Raises InputError when the folder holds no such model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    gpu = torch.cuda.is_available()
    torch.set_num_threads(free_cores())
    # Under autocast eager attention trains faster than sdpa on some CPUs, and no slower on others.
    attention = "eager" if training and not gpu else "sdpa"
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(checkpoint), dtype=torch.bfloat16, attn_implementation=attention
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{checkpoint}: cannot load a language model: {error}") from error
    return model.to("cuda" if gpu else "cpu")


def fit(
    model: Any,
    rows: Sequence[Row],
    chat: ChatFormat,
    settings: FitSettings,
    seed: int,
    checks: Checks | None = None,
) -> tuple[Any, FitFigures]:
    """Train `model` on `rows` in this order, in this process; return it, its adapter merged.

    With `checks`, and as many of them as the settings say, it goes on from the last one that an
    interrupted call left in their folder, and returns the state that held-out people liked best.
    """
    import torch

    started, cpu = time.monotonic(), time.process_time()
    if settings.lora_rank == 0:
        model = model.float()  # a small step is lost in the rounding of a bf16 weight
    checks = checks if settings.checks else None
    steps = -(-len(rows) // settings.batch_rows)
    last = _last_check(checks)
    done = int(last.rpartition("-")[2]) if last else 0
    with track("train", total=steps, unit="steps", done=done) as bar:
        job = Job(rows, chat, settings, seed, checks)
        trainer = make_trainer(model, job, bar)
        with fast_layers(trainer.model, job):
            trainer.train(resume_from_checkpoint=last)
    before = rows[: done * settings.batch_rows]
    trained = trainer.model
    if settings.lora_rank:
        # Merged in fp32 and rounded once; an engine serves merged weights at full speed.
        adapter = Adapter.of(trained)
        trained = trained.float().merge_and_unload()
        trained.adapter = adapter
    figures = FitFigures(
        steps=trainer.state.global_step,
        rows=len(rows),
        tokens=sum(len(r.input_ids) for r in rows),
        target_tokens=sum(r.num_targets for r in rows),
        threads=torch.get_num_threads(),
        seconds=time.monotonic() - started,
        losses=_logged(trainer.state.log_history, "loss", rows, settings.batch_rows),
        cpu_seconds=time.process_time() - cpu,
        peak_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,  # of KiB
        checks=_logged(trainer.state.log_history, CHECKED, rows, settings.batch_rows),
        tokens_before=sum(len(r.input_ids) for r in before),
        target_tokens_before=sum(r.num_targets for r in before),
        check_seconds=trainer.checking.seconds,
        check_cpu_seconds=trainer.checking.cpu_seconds,
    )
    return trained.to(torch.bfloat16), figures


def _last_check(checks: Checks | None) -> str | None:
    """The newest whole checkpoint of an interrupted training."""
    whole = filter(_is_whole, checks.folder.glob("checkpoint-*") if checks else ())
    newest = max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    return str(newest) if newest else None


def _is_whole(checkpoint: Path) -> bool:
    """Whether the trainer came to the end of what it writes: its state is the last file of all."""
    with suppress(InputError):
        return bool(read_json(checkpoint / "trainer_state.json"))
    return False


def _logged(
    history: Sequence[dict[str, Any]], key: str, rows: Sequence[Row], batch_rows: int
) -> list[tuple[int, float]]:
    seen = [0]
    for row in rows:
        seen.append(seen[-1] + len(row.input_ids))
    logged = [entry for entry in history if key in entry]
    return [(seen[min(e["step"] * batch_rows, len(rows))], float(e[key])) for e in logged]


def save_checkpoint(model: Any, chat: ChatFormat, out: Path, about: dict[str, Any]) -> None:
    """Save an ordinary checkpoint whose chat template opens the turn of the role it plays.

    Either the whole folder appears or nothing does. `about` goes to realchat.json beside it all.
    """
    from safetensors import SafetensorError

    temporary = out.with_name(f".{out.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    tokenizer = chat.tokenizer
    tokenizer.chat_template = chat.template()
    # Either token ends a completion: the turn is over, or (an empty one) the person has left.
    model.generation_config.eos_token_id = [chat.end_of_turn_id, chat.end_of_conversation_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    try:
        model.save_pretrained(str(temporary))
        tokenizer.save_pretrained(str(temporary))
        write_json(temporary / CARD, {"opens": chat.opens, **about})
        save_adapter(model, temporary / FOLDER, {"opens": chat.opens, **about})
        shutil.rmtree(out, ignore_errors=True)
        temporary.rename(out)
    except (OSError, SafetensorError) as error:  # the latter is what a full disk is to safetensors
        shutil.rmtree(temporary, ignore_errors=True)
        raise WorldError(f"cannot save the checkpoint {out}: {error}") from error
