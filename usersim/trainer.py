"""TRL's trainer, as we use it: ready rows in their order, one process or several.

This is the only module that knows TRL.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from usersim.chat_format import ChatFormat
from usersim.errors import InputError, WorldError
from usersim.perplexity import summed_nll
from usersim.progress import Track
from usersim.rows import IGNORED, Row

if TYPE_CHECKING:
    import torch

    from usersim.sft import Checks, FitSettings

CHECKED = "eval_loss"
"""The trainer's name for nats per token of the held-out people."""

CASTS = "cast_input_dtype_enabled"
"""PEFT's switch in each adapted layer."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained: everything but the model."""

    rows: Sequence[Row]
    chat: ChatFormat
    settings: "FitSettings"
    seed: int
    checks: "Checks | None" = None

    @property
    def steps(self) -> int:
        """Optimizer steps of one pass over the rows."""
        return -(-len(self.rows) // self.settings.batch_rows)

    def targets_by_step(self) -> list[int]:
        """Labelled tokens before each step, and of all of them."""
        sums = [0, *accumulate(row.num_targets for row in self.rows)]
        return [*sums[:: self.settings.batch_rows][: self.steps], sums[-1]]


@dataclass(slots=True)
class Clock:
    """What something took altogether."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of this process."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add what the block takes."""
        began, cpu = time.monotonic(), time.process_time()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - began
            self.cpu_seconds += time.process_time() - cpu


def make_trainer(model: Any, job: Job, bar: Track) -> Any:
    """A trainer that passes over the job's rows once, in their order, and shows it on `bar`."""
    import datasets
    from torch.utils.data import SequentialSampler
    from transformers.trainer_callback import PrinterCallback, ProgressCallback
    from trl import SFTTrainer

    class InOrder(SFTTrainer):  # type: ignore[misc]
        """SFTTrainer on ready rows in their order; on CPU only labelled positions meet the head.

        TRL's fused head scores every position in fp32 on a CPU, which costs a quarter of the time,
        and reads the head's weights past the row of the end token that an adapter trains.
        """

        control: Any
        checking = Clock()

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(self.train_dataset)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if not (self.args.use_cpu or _learns_leaving(job)):
                return super().compute_loss(model, inputs, *args, **kwargs)
            loss = labelled_loss(model, inputs, kwargs.get("num_items_in_batch"))
            # Gradients are averaged over processes, and the count is of all their tokens.
            return loss * self.accelerator.num_processes

        def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            with _saving():
                super()._save_checkpoint(*args, **kwargs)

        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            assert job.checks is not None
            with self.checking.running():
                metrics = {CHECKED: _checked(self, job.checks.rows, job.chat)}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(
                self.args, self.state, self.control, metrics
            )
            return metrics

    rows = dealt(job.rows, job.settings, world_size())
    columns = {"input_ids": [r.input_ids for r in rows], "labels": [r.labels for r in rows]}
    dataset = datasets.Dataset.from_dict(columns)
    trainer = InOrder(
        model=model,
        args=_arguments(job),
        train_dataset=dataset,
        eval_dataset=dataset.select(range(1)) if job.checks else None,  # `evaluate` has its own
        processing_class=job.chat.tokenizer,
        peft_config=_adapter(job, model),
        callbacks=[_reporting(job, bar)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


@contextmanager
def _saving() -> Iterator[None]:
    """Raise WorldError for a full disk: to torch it is "unexpected pos 576 vs 534"."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise WorldError(
            f"cannot save a checkpoint of the training ({error}); when there is room on the disk, "
            "the same command goes on from the last one"
        ) from error


def dealt(rows: Sequence[Row], settings: "FitSettings", ranks: int) -> list[Row]:
    """The rows, those of each step in an order that gives every process about as many tokens.

    Processes wait for each other at the end of a step; which of them takes a row changes nothing
    else. The loader gives rows of one step out in turn. A last step that is not full stays.
    """
    size = settings.batch_rows
    if ranks == 1 or settings.micro_batch_rows > 1 or size % ranks:
        return list(rows)
    steps = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [row for step in steps for row in (_in_turn(step, ranks) if len(step) == size else step)]


def _in_turn(step: Sequence[Row], ranks: int) -> list[Row]:
    """Longest first, each to the process with the fewest tokens that has room for it."""
    hands: list[list[Row]] = [[] for _ in range(ranks)]
    for row in sorted(step, key=lambda row: -len(row.input_ids)):
        free = [hand for hand in hands if len(hand) < len(step) // ranks]
        min(free, key=lambda hand: sum(len(r.input_ids) for r in hand)).append(row)
    return [row for turn in zip(*hands, strict=True) for row in turn]


@contextmanager
def fast_layers(model: Any, job: Job) -> Iterator[None]:
    """While the block runs, layers without needless casts; in a long training on a CPU, compiled.

    PEFT casts what a layer reads to the adapter's fp32, and autocast casts it back to bf16. Without
    that, and with the same result, SmolLM2-135M trains 8 % faster; with its layers compiled, 40 %
    more (`benchmarks/train_user.py`).
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    compiled = layers if worth_compiling(job) else []
    # PEFT's own disable_input_dtype_casting stumbles over layers of trainable tokens (0.21).
    autocast = bool(job.settings.trl.get("bf16", True))  # without it the casts are needed
    casting = [m for m in model.modules() if autocast and hasattr(m, CASTS)]
    for module in casting:
        setattr(module, CASTS, False)
    for layer in compiled:
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for module in casting:
            setattr(module, CASTS, True)
        for layer in compiled:
            layer._compiled_call_impl = None


def worth_compiling(job: Job) -> bool:
    """On a CPU, with a C++ compiler, for so many tokens that it pays."""
    import torch

    if torch.cuda.is_available() or not shutil.which(os.environ.get("CXX", "g++")):
        return False
    return sum(len(row.input_ids) for row in job.rows) >= job.settings.compile_from_tokens


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


def _checked(trainer: Any, rows: Sequence[Row], chat: ChatFormat) -> float:
    """Nats per token of held-out rows, shared out over the processes."""
    import torch

    rank, ranks = trainer.args.process_index, trainer.args.world_size
    own = rows[rank::ranks]
    sums = torch.tensor(summed_nll(trainer.model, own, chat.end_of_conversation_id))
    if len(own) < -(-len(rows) // ranks):  # a sharded model's parts are fetched by all or by none
        summed_nll(trainer.model, rows[:1], chat.end_of_conversation_id)
    if ranks > 1:
        sums = trainer.accelerator.reduce(sums.to(trainer.args.device), reduction="sum")
    nll, tokens = sums.tolist()
    return float(nll / tokens)


def _arguments(job: Job) -> Any:
    import torch
    from trl import SFTConfig

    settings, gpu = job.settings, torch.cuda.is_available()
    ranks = world_size()
    return SFTConfig(
        **{
            "output_dir": tempfile.gettempdir(),  # nothing is written: save_strategy is "no"
            "max_steps": job.steps,
            "per_device_train_batch_size": settings.micro_batch_rows,
            "gradient_accumulation_steps": max(
                1, settings.batch_rows // (settings.micro_batch_rows * ranks)
            ),
            "learning_rate": settings.learning_rate,
            "lr_scheduler_type": "linear",
            "warmup_steps": max(1, round(job.steps * settings.warmup_share)),
            "adam_beta2": 0.98,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "bf16": True,
            "use_cpu": not gpu,
            "ddp_find_unused_parameters": False,
            "gradient_checkpointing": gpu,
            "dataloader_pin_memory": gpu,
            "dataset_kwargs": {"skip_prepare_dataset": True},
            "max_length": settings.view.window,
            "logging_steps": max(1, job.steps // 20),
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "seed": job.seed,
            **(_checking(job) if job.checks else {}),
            **settings.trl,
        }
    )


def check_options(options: Mapping[str, Any]) -> None:
    """Raise InputError for an option that TRL does not have."""
    from trl import SFTConfig

    known = [field.name for field in fields(SFTConfig)]
    for name in options:
        if name not in known:
            nearest = get_close_matches(name, known, 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise InputError(f"trl.{name} is no option of trl.SFTConfig{hint}")


def _checking(job: Job) -> dict[str, Any]:
    """Options that score and save now and then, and bring the best state back at the end."""
    assert job.checks is not None
    every = max(1, job.steps // job.settings.checks)
    return {
        "output_dir": str(job.checks.folder),
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,  # the best and the last
        "load_best_model_at_end": True,
        "metric_for_best_model": CHECKED,
        "greater_is_better": False,
    }


def world_size() -> int:
    """How many processes train together, as this one was told when it was started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _learns_leaving(job: Job) -> bool:
    """Whether an adapter trains the end token's rows.

    No model has ever said this token in a chat: without its own row in training, an adapter needs
    thousands of turns to make it likely at all.
    """
    return job.settings.lora_rank > 0 and job.chat.opens == "user"


def _adapter(job: Job, model: Any) -> Any:
    rank = job.settings.lora_rank
    if not rank:
        return None
    from peft import LoraConfig

    end = job.chat.end_of_conversation_id
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        trainable_token_indices=end_rows(model, end) if _learns_leaving(job) else None,
    )


def end_rows(model: Any, end: int) -> "list[int] | dict[str, list[int]]":
    """Which rows PEFT is to train: the token's in the embedding, and in a head that is no copy."""
    if model.config.tie_word_embeddings:
        return [end]  # PEFT sees to the head
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return {name: [end] for name, module in model.named_modules() if module in ends}


def _reporting(job: Job, bar: Track) -> Any:
    from transformers import TrainerCallback

    targets = job.targets_by_step()

    class Reporting(TrainerCallback):  # type: ignore[misc]
        """Shows each step, how many labelled tokens a second are learned, and the last losses."""

        def __init__(self) -> None:
            self.losses: dict[str, str] = {}
            self.began, self.first = time.monotonic(), 0

        def on_train_begin(self, args: Any, state: Any, *others: Any, **kwargs: Any) -> None:
            self.began, self.first = time.monotonic(), state.global_step

        def on_step_end(self, args: Any, state: Any, *others: Any, **kwargs: Any) -> None:
            bar.advance(1)
            learned = targets[min(state.global_step, job.steps)] - targets[self.first]
            rate = learned / max(time.monotonic() - self.began, 1e-9)
            bar.note(" · ".join([f"{rate:.0f} target tokens/s", *self.losses.values()]))

        def on_log(self, *args: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
            for key, name in {"loss": "loss", CHECKED: "held-out"}.items():
                if logs and key in logs:
                    self.losses[key] = f"{name} {float(logs[key]):.3f}"

    return Reporting()
