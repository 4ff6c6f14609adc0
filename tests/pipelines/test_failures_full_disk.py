"""A full disk, for every verb that writes: one message, nothing half written, and room mends it.

The disk is full from a given size on: no file of this process may grow beyond it (RLIMIT_FSIZE), so
that small files (a mark, a lock) still go through where large ones fail.
"""

import json
import resource
import shutil
from contextlib import contextmanager, suppress

import pytest
from scripted_run import STAGES, go_on, held, recipe_of

from pipelines.export import export
from pipelines.failures import explained
from pipelines.grow import extend, retry
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from pipelines.stages import perform
from pipelines.verify import report, verify
from usersim.errors import InputError, WorldError

ROOM = (0, 700, 6_000, 40_000, 70_000)  # bytes: from no mark at all to all but the largest file
LOOSE = {"opener_words": 1, "opener_threshold": 0.4, "opener_attempts": 1}


@contextmanager
def full_from(size):
    """Let no file grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def attempt(work, size):
    """Whether the work found room; else it ends with a message, and never as a bug of ours."""
    with full_from(size):
        try:
            work()
        except (WorldError, OSError) as error:
            said, code = explained(error)
        else:
            return True
    assert code == 1
    assert "cannot" in said or "the disk is full" in said
    return False


def proved(run):
    checks = verify(run.root)
    assert not any(check.problems for check in checks), report(checks)
    assert not list(run.root.rglob("*.tmp"))


def test_every_stage(tmp_path, unbroken):
    run = RunFolder(tmp_path / "run")
    recipe = recipe_of("run", **LOOSE)
    refused = []
    for size in ROOM:
        found = attempt(lambda: run.adopt(recipe), size)
        refused += [] if found else ["adopt"]
        if found:
            break
    with run.locked():
        run.adopt(recipe)
        for name in STAGES:
            stage = stage_named(name)
            for size in ROOM:
                if attempt(lambda stage=stage: perform(stage, recipe, run), size):
                    break
                refused.append(name)
            else:
                perform(stage, recipe, run)
    assert set(STAGES) | {"adopt"} <= set(refused)
    go_on(run)
    proved(run)
    for path in sorted(unbroken.conversations.iterdir()):  # the same to the byte
        assert path.read_bytes() == (run.conversations / path.name).read_bytes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that found all the room it wanted."""
    return held(tmp_path_factory.mktemp("unbroken") / "run", **LOOSE)


@pytest.fixture
def run(unbroken, tmp_path):
    """A copy of it."""
    return RunFolder(shutil.copytree(unbroken.root, tmp_path / "run"))


@pytest.mark.parametrize("size", ROOM)
def test_report(run, size):
    stage, recipe = stage_named("report"), Recipe.load(run.recipe_file)
    page = run.report.read_bytes() if run.report.exists() else None
    if not attempt(lambda: perform(stage, recipe, run), size) and run.report.exists():
        assert page is None or run.report.read_bytes() == page  # the old page, never half a new one


def test_growing_and_trying_again(run):
    refused = 0
    for size in ROOM:
        refused += not attempt(lambda: extend(run, 37), size)
    assert refused
    extend(run, 37)
    go_on(run)
    proved(run)
    reason = next(iter(run.metrics()["simulate"]["rejected_reasons"]))
    for size in ROOM:
        with suppress(InputError, WorldError, OSError), full_from(size):
            retry(run, reason)  # journals that cannot be opened are an InputError that names them
    go_on(run)
    proved(run)


def test_export_leaves_the_old_file_or_none(run, tmp_path):
    out = tmp_path / "corpus.json"
    assert not attempt(lambda: export(run.root, "sharegpt", out, "train"), 100)
    assert not out.exists()
    export(run.root, "sharegpt", out, "train")
    whole = out.read_bytes()
    assert not attempt(lambda: export(run.root, "sharegpt", out, "train"), 100)
    assert out.read_bytes() == whole
    assert json.loads(whole)


def test_ingest(tmp_path):
    people = tmp_path / "people.json"
    turns = [{"from": "human", "value": "how do I mend {} things before winter comes?"},
             {"from": "gpt", "value": "With thread number {}, and with patience."}]  # fmt: skip
    people.write_text(json.dumps([
        {"id": f"t{n}_0", "conversations": [t | {"value": t["value"].format(n * n)} for t in turns]}
        for n in range(60)
    ]))  # fmt: skip
    table = {"ingest": {"source": str(people), "language": None, "dev": 4, "test": 8}}
    recipe, stage = Recipe.checked(table, "test"), stage_named("ingest")
    run = RunFolder(tmp_path / "run")
    with run.locked():
        run.adopt(recipe)
        refused = sum(not attempt(lambda: perform(stage, recipe, run), size) for size in ROOM[:3])
        assert refused
        perform(stage, recipe, run)
    assert run.is_done(stage, recipe)
    assert not list(run.people.glob(".*"))


@pytest.mark.slow
def test_a_checkpoint_is_whole_or_absent(tmp_path, tiny_checkpoint):
    from usersim.chat_format import ChatFormat, load_tokenizer
    from usersim.sft import load_model, save_checkpoint

    chat, model = (
        ChatFormat.of(load_tokenizer(tiny_checkpoint)),
        load_model(tiny_checkpoint, training=False),
    )
    out = tmp_path / "models" / "user"
    out.parent.mkdir()
    for size in (0, 2_000, 20_000):
        assert not attempt(lambda: save_checkpoint(model, chat, out, {}), size)
        assert not out.exists()
    save_checkpoint(model, chat, out, {})
    assert (out / "config.json").is_file()
