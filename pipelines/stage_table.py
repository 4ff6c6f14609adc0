"""The stages of a run in order: what each reads of the recipe, and what each leaves behind."""

from dataclasses import dataclass

from usersim.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a run. The tuples hold names; paths are inside the run folder."""

    name: str
    title: str
    figures: str
    """The key of metrics.json that holds this stage's figures."""
    after: tuple[str, ...] = ()
    """Stages that must be done first."""
    tables: tuple[str, ...] = ()
    """Tables of the recipe, or dotted parts of them, that decide what comes out."""
    models: tuple[str, ...] = ()
    """Keys of the recipe's `models` that decide what comes out."""
    pace: tuple[str, ...] = ()
    """Keys of those tables that only say how fast, or how patiently: they may change any time."""
    amount: tuple[str, ...] = ()
    """Keys that say how many, and in which files; but not which, nor what each of them is."""
    outputs: tuple[str, ...] = ()
    """Files and folders that the stage makes; removed before the stage is done anew."""
    measured: tuple[str, ...] = ()
    """What a verb that is no stage measured of the outputs: it goes when they are made anew."""
    drafts: tuple[str, ...] = ()
    """What it goes on from after an interruption, and removes itself when it is done."""
    trains: bool = False
    asks: bool = False
    """Whether it opens an engine, which wants a GPU where there is one."""
    resumes: bool = False
    """Whether the stage goes on from its own outputs or drafts after an interruption."""

    optional: bool = False
    """Whether only a recipe that names the stage has it."""
    shows_all: bool = False
    """Whether the stage shows whatever is there, so that anything new makes it stale."""

    @property
    def verb(self) -> str:
        """Its command: `realchat <verb>`."""
        return self.name.replace("_", "-")


_PATIENCE = ("concurrency", "transient_retries", "retry_pause_s", "max_error_rate")
_ENGINE = (
    "max_num_seqs", "group", "replicas", "threads", "cores", "kv_cache_gb", "block_tokens",
    "gpu_memory_utilization", "gpus", "tensor_parallel", "key_variable", "timeout_s", "retries",
    "price", "log_dir",
)  # fmt: skip
_TALK = (
    "max_rounds", "min_rounds", "user_sampling", "assistant_sampling", "end_bias",
    "assistant_system", "token_budget", "opener_attempts", "turn_attempts", "opener_threshold",
    "opener_words", "refusals",
)  # fmt: skip
_HARDWARE = [f"{role}.{key}" for role in ("user", "assistant") for key in _ENGINE]

STAGES: tuple[Stage, ...] = (
    Stage(
        name="ingest",
        title="real people's conversations, cleaned and split",
        figures="ingest",
        tables=("ingest",),
        outputs=("people",),
    ),
    Stage(
        name="train_user",
        title="UserGPT learns from the turns that people typed",
        figures="user_model",
        after=("ingest",),
        tables=("train_user",),
        pace=("train_user.processes",),
        models=("user",),
        outputs=("models/user",),
        trains=True,
    ),
    Stage(
        name="learn_likeness",
        title="what tells UserGPT's turns from people's, to choose among candidates by",
        figures="likeness",
        after=("ingest", "train_user"),
        tables=("likeness", *(f"simulate.{key}" for key in _TALK), "engines"),
        pace=tuple(f"engines.{key}" for key in _HARDWARE),
        models=("assistant",),
        outputs=("models/likeness.npz",),
        drafts=("models/rehearsal",),
        asks=True,
        resumes=True,
        optional=True,
    ),
    Stage(
        name="simulate",
        title="UserGPT and the assistant talk",
        figures="simulate",
        after=("train_user", "learn_likeness"),
        tables=("simulate", "engines"),
        models=("assistant",),
        pace=(*(f"simulate.{key}" for key in _PATIENCE), *(f"engines.{key}" for key in _HARDWARE)),
        amount=("simulate.conversations", "simulate.shard_size", "simulate.extended_at"),
        outputs=("journal", "conversations", "rejected/simulate.parquet"),
        measured=("fidelity.json", "fidelity.html", "fidelity.work"),
        resumes=True,
    ),
    Stage(
        name="curate",
        title="duplicates and bad conversations out, with reasons",
        figures="curate",
        after=("simulate",),
        tables=("curate",),
        pace=("curate.judge.concurrency", *(f"curate.judge.engine.{key}" for key in _ENGINE)),
        outputs=("curated", "rejected/curate.parquet"),
        measured=("ablation.json",),
    ),
    Stage(
        name="corpus",
        title="Parquet and a dataset card",
        figures="corpus",
        after=("curate",),
        tables=("corpus",),
        outputs=("corpus",),
    ),
    Stage(
        name="train_assistant",
        title="the student learns from the corpus",
        figures="assistant",
        after=("ingest", "corpus"),
        tables=("train_assistant",),
        pace=("train_assistant.processes",),
        models=("student",),
        outputs=("models/assistant",),
        trains=True,
    ),
    Stage(
        name="train_character",
        title="a model learns to be a person, from the story of a life",
        figures="character",
        tables=("character",),
        models=("assistant",),
        pace=("character.training.processes",),
        outputs=("models/character", "character/made"),
        trains=True,
        optional=True,
    ),
    Stage(
        name="interview",
        title="the character beside its prompted base: probes, interviews, a judge",
        figures="interview",
        after=("train_character",),
        tables=("interview",),
        models=("assistant",),
        pace=("interview.interviews.concurrency", "interview.judge.concurrency"),
        outputs=("character/asked", "character.html"),
        resumes=True,
        optional=True,
    ),
    Stage(
        name="report",
        title="one page that shows how good all of it is",
        figures="report",
        shows_all=True,
        outputs=("report.html",),
    ),
)

ORDINARY = tuple(stage.name for stage in STAGES if not stage.optional)
"""What a recipe that names no stages has."""


def stage_named(name: str) -> Stage:
    """The stage with this name or verb. Raises InputError when there is none."""
    for stage in STAGES:
        if name in (stage.name, stage.verb):
            return stage
    raise InputError(f"no stage {name!r}; the stages are {', '.join(s.verb for s in STAGES)}")


def downstream(stage: Stage) -> list[Stage]:
    """The stages that use what `stage` makes, directly or not, in order."""
    reached = {stage.name}
    for later in STAGES:
        if later.shows_all or reached & set(later.after):
            reached.add(later.name)
    return [s for s in STAGES if s.name in reached and s is not stage]
