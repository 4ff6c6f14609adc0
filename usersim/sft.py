"""`fit`: supervised fine-tuning of rows by TRL. One function for UserGPT and for the assistant.

What differs between the two is whose turns are labelled; that was decided when the rows were made.
This is the only module that knows TRL.
"""

import logging
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from usersim.chat_format import ChatFormat
from usersim.checkpoints import CARD
from usersim.conversation import Conversation, Role
from usersim.cores import free_cores
from usersim.errors import InputError, WorldError
from usersim.files import write_json
from usersim.progress import Track, track
from usersim.rows import IGNORED, Row, ViewSettings, conversation_rows
from usersim.settings import Settings

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


class FitSettings(Settings):
    """How a model is trained. The defaults are measured best for minutes on two CPU cores."""

    view: ViewSettings = ViewSettings()
    train_tokens: int = 50_000
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
    trl: dict[str, Any] = Field(default_factory=dict)
    """Anything else goes to trl.SFTConfig as it is."""


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

    def to_dict(self) -> dict[str, Any]:
        """As it stands in metrics.json."""
        return {
            "steps": self.steps,
            "rows": self.rows,
            "tokens": self.tokens,
            "target_tokens": self.target_tokens,
            "threads": self.threads,
            "seconds": round(self.seconds, 1),
            "tokens_per_s": round(self.tokens / self.seconds, 1),
            "target_tokens_per_s": round(self.target_tokens / self.seconds, 1),
            "losses": [[tokens, round(loss, 4)] for tokens, loss in self.losses],
        }


def draw_rows(
    conversations: Sequence[Conversation],
    rows_of: Callable[[Conversation], list[Row]],
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
    model: Any, rows: Sequence[Row], chat: ChatFormat, settings: FitSettings, seed: int
) -> tuple[Any, FitFigures]:
    """Train `model` on `rows` in this order; return it, its adapter merged, and figures."""
    started = time.monotonic()
    steps = -(-len(rows) // settings.batch_rows)
    with track("train", total=steps, unit="steps") as bar:
        trainer = _trainer(model, rows, chat, settings, seed, bar)
        trainer.train()
    trained = trainer.model
    if settings.lora_rank:
        # Merged in fp32 and rounded once; an engine serves merged weights at full speed.
        trained = trained.float().merge_and_unload()
    import torch

    figures = FitFigures(
        steps=trainer.state.global_step,
        rows=len(rows),
        tokens=sum(len(r.input_ids) for r in rows),
        target_tokens=sum(r.num_targets for r in rows),
        threads=torch.get_num_threads(),
        seconds=time.monotonic() - started,
        losses=_losses(trainer.state.log_history, rows, settings.batch_rows),
    )
    return trained.to(torch.bfloat16), figures


def _losses(
    history: Sequence[dict[str, Any]], rows: Sequence[Row], batch_rows: int
) -> list[tuple[int, float]]:
    seen = [0]
    for row in rows:
        seen.append(seen[-1] + len(row.input_ids))
    logged = [entry for entry in history if "loss" in entry]
    return [(seen[min(e["step"] * batch_rows, len(rows))], float(e["loss"])) for e in logged]


def _trainer(
    model: Any,
    rows: Sequence[Row],
    chat: ChatFormat,
    settings: FitSettings,
    seed: int,
    bar: Track,
) -> Any:
    import datasets
    from torch.utils.data import SequentialSampler
    from trl import SFTTrainer

    class InOrder(SFTTrainer):  # type: ignore[misc]
        """SFTTrainer on ready rows in their order; on CPU only labelled positions meet the head.

        TRL's fused head scores every position in fp32 on a CPU, which costs a quarter of the time.
        """

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(self.train_dataset)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if self.args.use_cpu:
                return labelled_loss(model, inputs, kwargs.get("num_items_in_batch"))
            return super().compute_loss(model, inputs, *args, **kwargs)

    columns = {
        "input_ids": [r.input_ids for r in rows],
        "labels": [r.labels for r in rows],
    }
    trainer = InOrder(
        model=model,
        args=_arguments(settings, len(rows), seed),
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=chat.tokenizer,
        peft_config=_adapter(settings, chat),
        callbacks=[_reporting(bar)],
    )
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def labelled_loss(model: Any, inputs: Any, num_targets: "torch.Tensor | None") -> "torch.Tensor":
    """Mean cross entropy over labelled positions, computing logits at no others. Shape: scalar."""
    from torch.nn import functional

    labels = inputs["labels"][:, 1:]
    keep = (labels != IGNORED).any(0).nonzero().squeeze(1)
    logits = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        logits_to_keep=keep,
        use_cache=False,
    ).logits
    kept = labels[:, keep]
    total = functional.cross_entropy(
        logits.float().flatten(0, 1), kept.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / ((kept != IGNORED).sum() if num_targets is None else num_targets)


def _arguments(settings: FitSettings, num_rows: int, seed: int) -> Any:
    import torch
    from trl import SFTConfig

    gpu = torch.cuda.is_available()
    steps = -(-num_rows // settings.batch_rows)
    return SFTConfig(
        **{
            "output_dir": tempfile.gettempdir(),  # nothing is written: save_strategy is "no"
            "max_steps": steps,
            "per_device_train_batch_size": settings.micro_batch_rows,
            "gradient_accumulation_steps": max(1, settings.batch_rows // settings.micro_batch_rows),
            "learning_rate": settings.learning_rate,
            "lr_scheduler_type": "linear",
            "warmup_steps": max(1, round(steps * settings.warmup_share)),
            "adam_beta2": 0.98,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "bf16": True,
            "use_cpu": not gpu,
            "gradient_checkpointing": gpu,
            "dataloader_pin_memory": gpu,
            "dataset_kwargs": {"skip_prepare_dataset": True},
            "max_length": settings.view.window,
            "logging_steps": max(1, steps // 20),
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "seed": seed,
            **settings.trl,
        }
    )


def _adapter(settings: FitSettings, chat: ChatFormat) -> Any:
    if not settings.lora_rank:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        # No model has ever said this token in a chat: without its own row in training, an adapter
        # needs thousands of turns to make it likely at all.
        trainable_token_indices=[chat.end_of_conversation_id] if chat.opens == "user" else None,
    )


def _reporting(bar: Track) -> Any:
    from transformers import TrainerCallback

    class Reporting(TrainerCallback):  # type: ignore[misc]
        """Shows each step, and the loss whenever it is logged."""

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            bar.advance(1)

        def on_log(self, *args: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                bar.note(f"loss {float(logs['loss']):.3f}")

    return Reporting()


def save_checkpoint(model: Any, chat: ChatFormat, out: Path, about: dict[str, Any]) -> None:
    """Save an ordinary checkpoint whose chat template opens the turn of the role it plays.

    Either the whole folder appears or nothing does. `about` goes to realchat.json beside it all.
    """
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
        shutil.rmtree(out, ignore_errors=True)
        temporary.rename(out)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise WorldError(f"cannot save the checkpoint {out}: {error}") from error
