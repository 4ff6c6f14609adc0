from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.nested import differences
from pipelines.recipe import DEFAULT, SHIPPED, Recipe, overridden
from pipelines.stage_table import STAGES, downstream, stage_named
from usersim.errors import InputError


def refused(text: str, tmp_path: Path, *overrides: str) -> str:
    """The message with which a recipe's text is refused."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        Recipe.load(path, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def fingerprints(*overrides: str) -> dict[str, str]:
    recipe = Recipe.load(DEFAULT, overrides)
    return {stage.name: recipe.stage_fingerprint(stage) for stage in STAGES}


def changed(*overrides: str) -> set[str]:
    """Stages whose fingerprint an override changes."""
    before, after = fingerprints(), fingerprints(*overrides)
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_load_and_survive_being_written(path):
    recipe = Recipe.load(path)
    assert Recipe.checked(yaml.safe_load(recipe.to_yaml()), "again") == recipe


def test_a_shipped_recipe_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Recipe.load(Path("demo")) == Recipe.load(DEFAULT)


@pytest.mark.parametrize(
    ("simulate", "learns"),
    [
        ({}, False),
        ({"candidates": 4}, True),
        ({"candidates": 4, "likeness": "learned.npz"}, False),
        ({"candidates": 4, "given": ["profile"]}, False),
        ({"candidates": 4, "cast": {"personas": 8}}, False),
        ({"candidates": 4, "cast": {"personas": 8, "user": "free"}}, True),
        ({"candidates": 4, "cast": {"personas": 1}}, True),  # nobody else to be played
        ({"candidates": 4, "cast": {"file": "people.yaml"}}, True),
        ({"candidates": 4, "briefs": "briefs.jsonl"}, True),
    ],
)
def test_a_likeness_is_learned_where_somebody_is_chosen_for(simulate, learns):
    recipe = Recipe.checked({"simulate": simulate}, "test")
    stage = stage_named("learn-likeness")
    assert (stage in recipe.planned) == (stage in recipe.after(stage_named("simulate"))) == learns


def test_all_problems_are_told_at_once_with_the_nearest_key(tmp_path):
    message = refused(
        "simulate: {convesations: 3}\nconcurrency: 4\nmodels: {oracle: x}\nseed: often", tmp_path
    )
    assert "4 problems" in message
    assert "simulate.convesations: unknown key; did you mean `conversations`?" in message
    assert "concurrency: unknown key; did you mean `simulate.concurrency` or" in message
    assert "models.oracle: unknown key; known here: user, assistant, student" in message
    assert "seed: " in message
    assert "not often" in message


def test_a_key_of_several_tables_is_answered_with_them(tmp_path):
    message = refused("conversations: 5", tmp_path)
    assert "did you mean `likeness.conversations` or `simulate.conversations`" in message


def test_unknown_keys_inside_nested_tables_are_told(tmp_path):
    message = refused("simulate: {user_sampling: {temprature: 1}}", tmp_path)
    assert "simulate.user_sampling.temprature: unknown key; did you mean `temperature`?" in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", "is not YAML"),
        ("- 1\n- 2", "must be a table of keys, it is a list"),
        ("seed: 1\nseed: 2", "the key 'seed' stands twice"),
        ("seed: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("stages: [ingest, fly]", "no stage 'fly'"),
        ("simulate: 7", "simulate: "),
        ("stages: []", "name at least one of ingest"),
        ("name: ../../etc", "name: "),
    ],
)
def test_what_is_no_recipe_is_refused(text, told, tmp_path):
    assert told in refused(text, tmp_path)


def test_files_that_cannot_be_recipes_are_refused(tmp_path):
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00seed: 1")
    for path, told in [
        (tmp_path, "is a folder"),
        (tmp_path / "absent.yaml", "no recipe"),
        (binary, "not UTF-8"),
    ]:
        with pytest.raises(InputError, match=told):
            Recipe.load(path)


def test_overrides_are_yaml_at_a_dotted_place():
    recipe = Recipe.load(DEFAULT, ["simulate.conversations=5", "corpus.languages=[de, en]"])
    assert recipe.simulate.conversations == 5
    assert recipe.corpus.languages == ("de", "en")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("simulate.conversations", "is not KEY=VALUE"),
        ("=5", "is not KEY=VALUE"),
        ("seed=[1", "is not YAML"),
        ("seed.deeper=1", "seed is a single value"),
        ("simulate.conversations=many", "simulate.conversations: "),
    ],
)
def test_broken_overrides_are_refused(override, told):
    with pytest.raises(InputError, match=told):
        Recipe.load(DEFAULT, [override])


def test_the_recipes_seed_reaches_tables_that_have_none_of_their_own():
    tables = Recipe.load(DEFAULT, ["seed=11"]).to_table()
    seeds = [t["seed"] for t in tables.values() if isinstance(t, dict) and "seed" in t]
    assert set(seeds) <= {11}


def test_a_setting_changes_its_stage_and_the_later_ones_only():
    for name, override in [
        ("train_user", "models.user=other"),
        ("simulate", "simulate.conversations=5"),
        ("curate", "curate.filters.max_refusals=3"),
        ("train_assistant", "models.student=other"),
    ]:
        stage = stage_named(name)
        made_of_it = {stage.name, *(s.name for s in downstream(stage))} - {"report"}
        assert changed(override) - {"report"} == made_of_it


def test_names_and_expectations_change_no_fingerprint():
    assert changed("name=other", "expected_seconds={ingest: 3}") == set()
    renamed = Recipe.load(DEFAULT, ["name=other"])
    assert renamed.fingerprint() == Recipe.load(DEFAULT).fingerprint()
    assert Recipe.load(DEFAULT, ["seed=8"]).fingerprint() != renamed.fingerprint()


def test_a_user_model_from_elsewhere_needs_no_training():
    simulate = stage_named("simulate")
    assert [s.name for s in Recipe.load(DEFAULT).after(simulate)] == ["train_user"]
    assert Recipe.load(DEFAULT, ["engines.user.model=./mine"]).after(simulate) == []


def test_engines_take_the_models_of_the_recipe(tmp_path):
    recipe = Recipe.load(DEFAULT, ["models.assistant=some/model", "engines.assistant.threads=2"])
    assert recipe.user_engine(tmp_path / "user", tmp_path).model == str(tmp_path / "user")
    assert recipe.assistant_engine(tmp_path).model == "some/model"
    assert recipe.assistant_engine(tmp_path).threads == 2


ONE = ["engines.placement=one_engine", "engines.assistant.replicas=1"]


def test_two_roles_on_one_engine_share_a_model_and_differ_by_an_adapter(tmp_path):
    recipe = Recipe.load(DEFAULT, ONE)
    user = recipe.user_engine(tmp_path / "user", tmp_path)
    assistant = recipe.assistant_engine(tmp_path)
    assert user.shared
    assert assistant.shared
    assert user.model == assistant.model == recipe.models.assistant
    assert (user.adapter, assistant.adapter) == (str(tmp_path / "user" / "adapter"), "")
    assert (user.opens, user.name) == ("user", f"usergpt-{recipe.models.user}")


def test_one_shared_checkpoint_needs_no_adapter(tmp_path):
    both = ["engines.user.model=./mine", "engines.assistant.model=./mine"]
    recipe = Recipe.load(DEFAULT, [*ONE, *both])
    user = recipe.user_engine(tmp_path, tmp_path)
    assert (user.model, user.adapter, user.opens) == ("./mine", "", "user")


@pytest.mark.parametrize(
    "override",
    ["models.assistant=some/model", "engines.assistant.replicas=2", "engines.user.kind=endpoint"],
)
def test_one_engine_is_refused_where_it_cannot_be(override):
    with pytest.raises(InputError, match="one_engine"):
        Recipe.load(DEFAULT, [*ONE, override])


def test_prices_and_groups_change_no_conversation():
    changes = ("engines.assistant.price={prompt: 1, completion: 2}", "engines.user.group=4")
    assert changed(*changes) == set()


tables = st.recursive(
    st.integers() | st.text(max_size=5) | st.booleans(),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=6,
).filter(lambda value: isinstance(value, dict))


@given(tables)
def test_a_recipe_does_not_differ_from_itself(table):
    assert differences(table, table) == []
    assert overridden(table, []) == table


@given(tables, st.integers())
def test_an_override_is_the_only_difference_and_leaves_the_original(table, value):
    before = repr(table)
    after = overridden(table, [f"new.key={value}"])
    assert differences(table, after) == [f"new.key: (not set) -> {value}"]
    assert repr(table) == before


def test_the_runs_own_usergpt_is_named_after_its_base_in_the_lineage(tmp_path):
    recipe = Recipe.checked({"name": "x"}, "x")
    assert recipe.user_engine(tmp_path / "user", tmp_path).display_name == (
        f"usergpt-{recipe.models.user}"
    )


def test_a_misspelt_choice_is_answered_with_the_nearest(tmp_path):
    message = refused("ingest: {format: sharegtp}", tmp_path)
    assert "ingest.format: input should be 'messages'" in message
    assert "not sharegtp; did you mean sharegpt?" in message
