"""The recipe: one YAML a run, checked before anything starts, with dotted overrides on top.

    models:
      user: smollm2-135m-instruct
    simulate:
      conversations: 200

`realchat run --recipe that.yaml simulate.conversations=50` changes one value. Every problem of a
recipe is told at once, each with its place, and an unknown key with the nearest known one.
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from assistant.characters.work import CharacterTable, InterviewTable
from assistant.train import AssistantSettings
from pipelines.corpus import CorpusSettings
from pipelines.curate_settings import CurateSettings
from pipelines.gate import GateSettings
from pipelines.nested import copied, part_of, without, yaml_inline
from pipelines.stage_table import ORDINARY, STAGES, Stage, stage_named
from usersim.adapters import FOLDER as ADAPTER
from usersim.engines import EngineSpec
from usersim.errors import InputError
from usersim.files import fingerprint
from usersim.learn_likeness import LikenessSettings
from usersim.people import IngestSettings
from usersim.plan import SimulateSettings
from usersim.settings import Settings
from usersim.train import TrainSettings

SHIPPED = Path(__file__).resolve().parent.parent / "recipes"
DEFAULT = SHIPPED / "demo.yaml"


class Models(Settings):
    """The three models of a run: an embedded name, a checkpoint folder, or a Hub name."""

    user: str = Field("smollm2-135m-instruct", description="UserGPT is trained from this one")
    assistant: str = Field("smollm2-135m-instruct", description="answers in the conversations")
    student: str = Field("gemma-3-270m", description="learns from the corpus")


class RoleEngine(EngineSpec):
    """The engine behind one of the two speakers."""

    model: str = Field("", description="default: the run's own UserGPT, or `models.assistant`")


class Engines(Settings):
    """Where the two speakers run."""

    placement: Literal["two_engines", "one_engine"] = Field(
        "two_engines",
        description="vllm: an engine for each role; or one for both, UserGPT as an adapter over the"
        " assistant's model, which is dear on a CPU",
    )
    user: RoleEngine = RoleEngine()
    assistant: RoleEngine = RoleEngine()


class Recipe(Settings):
    """All that decides what a run makes. Each table belongs to the stage of the same name."""

    name: str = Field("demo", pattern=r"^[A-Za-z0-9][\w.-]*$", description="the run's folder name")
    seed: int = Field(7, ge=0, description="given to every table that has no seed of its own")
    stages: tuple[str, ...] = Field(
        ORDINARY, description="what `realchat run` does, in the plan's order"
    )
    models: Models = Models()
    ingest: IngestSettings = IngestSettings()
    train_user: TrainSettings = TrainSettings()
    engines: Engines = Engines()
    likeness: LikenessSettings = LikenessSettings()
    simulate: SimulateSettings = SimulateSettings()
    curate: CurateSettings = CurateSettings()
    gate: GateSettings = GateSettings()
    corpus: CorpusSettings = CorpusSettings()
    train_assistant: AssistantSettings = AssistantSettings()
    character: CharacterTable = CharacterTable()
    interview: InterviewTable = InterviewTable()
    expected_seconds: dict[str, float] = Field(
        {}, description="by stage, on the machine the recipe was written for; only ever shown"
    )

    @field_validator("stages")
    @classmethod
    def _known_stages(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wanted = {_stage_of(name).name for name in names}
        if not wanted:
            raise ValueError(f"name at least one of {', '.join(s.name for s in STAGES)}")
        return tuple(s.name for s in STAGES if s.name in wanted)

    @model_validator(mode="after")
    def _one_engine_can_be(self) -> Self:
        user, assistant = self.engines.user, self.engines.assistant
        if self.engines.placement != "one_engine":
            return self
        if {user.kind, assistant.kind} != {"vllm"} or user.replicas + assistant.replicas > 2:
            raise ValueError(
                "engines.placement: one_engine is for two roles on one vllm, unreplicated"
            )
        models = (user.model or self.models.user, assistant.model or self.models.assistant)
        if models[0] != models[1]:
            raise ValueError(
                "engines.placement: one_engine needs one model under both roles, not"
                f" {models[0]} and {models[1]}"
            )
        return self

    @classmethod
    def load(cls, path: Path, overrides: Iterable[str] = ()) -> Self:
        """A file's recipe, with `KEY=VALUE` overrides. Raises InputError naming every problem."""
        found = _find(path)
        return cls.checked(overridden(read_yaml(found), overrides), str(path))

    @classmethod
    def checked(cls, table: dict[str, Any], where: str) -> Self:
        """The recipe that a plain table holds. Raises InputError naming every problem."""
        try:
            return cls.model_validate(_with_seed(cls, table))
        except ValidationError as error:
            problems = [f"  {_problem(cls, detail)}" for detail in error.errors()]
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise InputError("\n".join([f"recipe {where}: {count}", *problems])) from error

    def after(self, stage: Stage) -> list[Stage]:
        """The stages that must be done first; a UserGPT from elsewhere needs no training."""
        user, not_needed = self.engines.user, set()
        if user.model or user.kind != "vllm":
            not_needed.add("train_user")
        if not self.learns_likeness:
            not_needed.add("learn_likeness")
        return [stage_named(name) for name in stage.after if name not in not_needed]

    @property
    def planned(self) -> list[Stage]:
        """What `realchat run` does: the stages that are named, and what one brings along."""
        wanted = set(self.stages)
        if self.learns_likeness and "simulate" in wanted:
            wanted.add("learn_likeness")
        return [stage for stage in STAGES if stage.name in wanted]

    @property
    def learns_likeness(self) -> bool:
        """Whether user turns are chosen by a likeness that this run learns itself."""
        return self.simulate.chooses and not self.simulate.likeness

    def user_engine(self, trained: Path, logs: Path) -> EngineSpec:
        """The engine of the user: the run's own UserGPT, unless the recipe names another."""
        spec = _spec(self.engines.user, str(trained), logs)
        if self.engines.placement == "one_engine":
            spec = self._as_adapter(spec, trained)
        if spec.name or self.engines.user.model:
            return spec
        # In the rows' lineage the folder's name, "user", would say nothing.
        return spec.model_copy(update={"name": f"usergpt-{Path(self.models.user).name}"})

    def assistant_engine(self, logs: Path) -> EngineSpec:
        """The engine that answers."""
        spec = _spec(self.engines.assistant, self.models.assistant, logs)
        return spec.model_copy(update={"shared": self.engines.placement == "one_engine"})

    def _as_adapter(self, spec: EngineSpec, trained: Path) -> EngineSpec:
        """UserGPT as the weights that its training changed, over the model of both roles."""
        own = self.engines.user
        changed: dict[str, Any] = {"shared": True, "opens": own.opens or "user"}
        if not own.model:
            changed |= {"model": self.models.user, "adapter": own.adapter or str(trained / ADAPTER)}
        return spec.model_copy(update=changed)

    def to_table(self) -> dict[str, Any]:
        """The whole recipe, defaults included, as plain values."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The whole recipe, defaults included, as YAML."""
        return yaml.safe_dump(self.to_table(), sort_keys=False, allow_unicode=True)

    def fingerprint(self) -> str:
        """16 hex digits that change with anything that decides what comes out."""
        table = without(self._unplaced(), {key for stage in STAGES for key in stage.pace})
        return fingerprint({key: table[key] for key in table if key not in UNPRINTED})

    def stage_fingerprint(self, stage: Stage) -> str:
        """The same for one stage: its own tables and models, and the stages before it."""
        return self._printed(stage, stage.pace)

    def identity(self, stage: Stage) -> str:
        """The same without how many: what the records' ids are made of, so that a run can grow."""
        return self._printed(stage, (*stage.pace, *stage.amount))

    def _unplaced(self) -> dict[str, Any]:
        """The recipe as if no server were anywhere: one that moves is the same."""
        table = self.to_table()
        for key in MOVES:
            _put(table, key, "")
        return table

    def _printed(self, stage: Stage, left_out: Iterable[str]) -> str:
        table = without(self._unplaced(), left_out)
        return fingerprint(
            {
                "stage": stage.name,
                "seed": self.seed,
                "tables": {key: part_of(table, key) for key in stage.tables},
                "models": {key: table["models"][key] for key in stage.models},
                "after": [self.stage_fingerprint(before) for before in self.after(stage)],
            }
        )


MOVES = ("engines.user.url", "engines.assistant.url")
UNPRINTED = ("name", "stages", "expected_seconds", "gate")  # they do not change what a stage makes


def _spec(engine: RoleEngine, model: str, logs: Path) -> EngineSpec:
    table = engine.model_dump()
    return EngineSpec(**table | {"model": engine.model or model, "log_dir": engine.log_dir or logs})


def _stage_of(name: str) -> Stage:
    try:
        return stage_named(name)
    except InputError as error:
        raise ValueError(str(error)) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The table in a YAML file. Raises InputError when it cannot be read or is no table."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506
    except OSError as error:
        raise InputError(f"cannot read recipe {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"recipe {path} is not UTF-8 text: {error.reason}") from error
    except yaml.YAMLError as error:
        raise InputError(f"recipe {path} is not YAML: {_yaml_problem(error)}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"recipe {path} must be a table of keys, it is a {type(value).__name__}")
    return value


def overridden(table: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """`table` with dotted `KEY=VALUE` changes; values are read as YAML.

    Raises InputError for an override without `=`, with a broken value, or under a plain value.
    """
    result = copied(table)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise InputError(
                f"{override!r} is not KEY=VALUE; write for example simulate.conversations=50"
            )
        _put(result, key.strip(), _override_value(override, text))
    return result


class _StrictLoader(yaml.SafeLoader):
    """YAML as data only; a key given twice is an error, where PyYAML would keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1 and key != "<<"), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice!r} stands twice in one table", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _find(path: Path) -> Path:
    """The recipe file: the path itself, or the name of a shipped one."""
    if path.is_dir():
        raise InputError(f"recipe {path} is a folder; name the YAML file in it")
    if path.exists():
        return path
    shipped = {p.stem: p for p in sorted(SHIPPED.glob("*.yaml"))}
    if str(path) in shipped:
        return shipped[str(path)]
    raise InputError(f"no recipe {path}; shipped ones: {', '.join(shipped) or 'none'}")


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else problem


def _override_value(override: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"the value in {override!r} is not YAML: {_yaml_problem(error)}"
        ) from error


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        child = table.setdefault(parent, {})
        if not isinstance(child, dict):
            raise InputError(f"override {key}: {parent} is a single value, not a table")
        table = child
    table[last] = value


def _with_seed(recipe: type[Recipe], table: dict[str, Any]) -> dict[str, Any]:
    """Give the recipe's seed to the tables that have a seed field and were given none."""
    seed = table.get("seed", recipe.model_fields["seed"].default)
    result = copied(table)
    if not isinstance(seed, int):
        return result  # refused where it stands, once
    for key in recipe.model_fields:
        model = _model_at(recipe, (key,))
        if model is not None and "seed" in model.model_fields:
            own = result.setdefault(key, {})
            if isinstance(own, dict):
                own.setdefault("seed", seed)
    return result


def _problem(recipe: type[Recipe], detail: ErrorDetails) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown key; {_suggestion(recipe, detail['loc'])}"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    given = detail["input"]
    shown = "" if detail["type"] == "missing" else f", not {yaml_inline(given)}"
    near = get_close_matches(str(given), detail.get("ctx", {}).get("expected", "").split("'"), n=1)
    meant = f"; did you mean {near[0]}?" if detail["type"] == "literal_error" and near else ""
    return f"{place or 'recipe'}: {message}{shown}{meant}"


def _suggestion(recipe: type[Recipe], loc: tuple[int | str, ...]) -> str:
    key = str(loc[-1])
    model = _model_at(recipe, loc[:-1])
    here = list(model.model_fields) if model else []
    near = get_close_matches(key, here, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    places = [place for place in _places(recipe) if place.rpartition(".")[2] == key]
    if places:
        return f"did you mean {' or '.join(f'`{place}`' for place in places[:3])}?"
    return f"known here: {', '.join(here)}"


def _model_at(model: type[BaseModel] | None, loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The class of the table at a place of the recipe, or None where there is no table."""
    for part in loc:
        field = model.model_fields.get(str(part)) if model else None
        model = _table_in(field.annotation) if field else model if isinstance(part, int) else None
    return model


def _table_in(annotation: Any) -> type[BaseModel] | None:
    """The table class in an annotation such as `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for a in get_args(annotation) if (found := _table_in(a))), None)


def _places(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for key, field in model.model_fields.items():
        yield prefix + key
        table = _table_in(field.annotation)
        if table is not None:
            yield from _places(table, f"{prefix}{key}.")
