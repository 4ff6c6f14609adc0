"""What a release consists of, and what is refused before anything is asked of a hub."""

import hashlib
import json
import subprocess

import pytest
import yaml
from small_run import make_run

from pipelines.release import (
    CARD,
    MANIFEST,
    PLACEHOLDER,
    REPORT,
    make_release,
    of_text,
    released_card,
)
from pipelines.run_folder import RunFolder
from usersim.errors import InputError

REPO = "someone/talks"


def text_of(release, path: str) -> str:
    content = next(f.content for f in release.files if f.path == path)
    return (content if isinstance(content, bytes) else content.read_bytes()).decode()


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_a_corpus_goes_with_its_card_its_report_and_a_manifest_of_all(tmp_path):
    run = make_run(tmp_path / "small")
    release = make_release(run, "corpus", REPO)
    data = [f"{p.parent.name}/{p.name}" for p in run.corpus.rglob("*.parquet")]
    assert any(name.startswith("lineage/") for name in data)
    assert sorted(f.path for f in release.files) == sorted([*data, CARD, MANIFEST, REPORT])
    manifest = json.loads(text_of(release, MANIFEST))
    assert (manifest["what"], manifest["run"], manifest["license"]) == (
        "corpus",
        "small",
        "cc-by-4.0",
    )
    listed = {f["path"]: (f["bytes"], f["sha256"]) for f in manifest["files"]}
    assert listed == {f.path: (f.size, f.sha256) for f in release.files if f.path != MANIFEST}
    assert release == make_release(run, "corpus", REPO)  # the same run is the same release


def test_hashes_are_those_of_git_and_sha256sum(tmp_path):
    (tmp_path / "a").write_text("some text\n")
    file = of_text("a", "some text\n")
    git = subprocess.run(["git", "hash-object", tmp_path / "a"], capture_output=True, check=True)
    assert file.git_sha1() == git.stdout.decode().strip()
    assert file.sha256 == hashlib.sha256(b"some text\n").hexdigest()


def test_the_card_names_the_repository_and_the_license_of_the_rows(tmp_path):
    run = make_run(tmp_path / "small")
    assert front_matter((run.corpus / CARD).read_text())["license"] == "unknown"
    card = text_of(make_release(run, "corpus", REPO), CARD)
    assert front_matter(card)["license"] == "cc-by-4.0"
    assert f'load_dataset("{REPO}")' in card
    assert PLACEHOLDER not in card
    assert card.count("The corpus is published under: **cc-by-4.0**.") == 1
    assert "Whoever publishes it" not in card


def test_a_corpus_whose_name_ends_in_dashes_keeps_the_metadata_of_its_card(tmp_path):
    run = make_run(tmp_path / "small")
    front, body = front_matter((run.corpus / CARD).read_text()), "\n# Talks\n"
    named = yaml.safe_dump(front | {"pretty_name": "Talks ---"}, sort_keys=False)
    given = make_release(run, "corpus", REPO).permission
    found = released_card(f"---\n{named}---\n{body}", REPO, given)
    assert found.endswith(body)
    assert yaml.safe_load(found.partition("\n---\n")[0])["configs"] == front["configs"]


def test_a_statement_about_licenses_goes_into_the_card_and_the_manifest(tmp_path):
    run = make_run(tmp_path / "small", rows_under="")
    with pytest.raises(InputError, match="realchat: not stated, 40 conversations"):
        make_release(run, "corpus", REPO)
    release = make_release(run, "corpus", REPO, "all of it is <mine> and *yours*")
    card = text_of(release, CARD)
    assert r"What the publisher states about it: all of it is \<mine\> and \*yours\*" in card
    assert front_matter(card)["license"] == "other"
    assert json.loads(text_of(release, MANIFEST))["license_confirmed"].startswith("all of it")


@pytest.mark.parametrize("license", ["lmsys-chat-1m", "cc-by-nc-nd-4.0"])
def test_rows_that_may_not_be_published_are_refused_whatever_is_stated(tmp_path, license):
    run = make_run(tmp_path / "small", rows_under=license)
    with pytest.raises(InputError, match=f"{license} forbids"):
        make_release(run, "corpus", REPO, "I think it is all right")


def test_a_stated_license_must_keep_what_the_rows_demand(tmp_path):
    run = make_run(tmp_path / "small", rows_under="cc-by-nc-4.0", license="mit")
    with pytest.raises(InputError, match=r"mit, which does not keep what cc-by-nc-4\.0 demands"):
        make_release(run, "corpus", REPO)
    run = make_run(tmp_path / "other", rows_under="cc-by-4.0", license="cc-by-sa-4.0")
    assert make_release(run, "corpus", REPO).permission.license == "cc-by-sa-4.0"


def test_files_that_are_not_what_the_run_made(tmp_path):
    run = make_run(tmp_path / "small")
    shard = sorted((run.corpus / "data").iterdir())[0]
    content = shard.read_bytes()
    for spoil in (
        lambda: shard.write_bytes(content[:-1] + b"?"),
        lambda: shard.write_bytes(content[:-9]),
        shard.unlink,
        lambda: (run.corpus / "data" / "extra.parquet").write_bytes(content),
    ):
        spoil()
        with pytest.raises(InputError, match=r"not what the run made .*parquet.*corpus --redo"):
            make_release(run, "corpus", REPO)
        shard.write_bytes(content)
    (run.corpus / "data" / "extra.parquet").unlink()
    make_release(run, "corpus", REPO)
    run.manifest_file.unlink()
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        make_release(run, "corpus", REPO)


def test_what_a_run_does_not_have_yet(tmp_path):
    with pytest.raises(InputError, match="is no run folder"):
        make_release(RunFolder(tmp_path / "nowhere"), "corpus", REPO)
    run = make_run(tmp_path / "small")
    run.clear("corpus")
    with pytest.raises(InputError, match="has no corpus yet: `realchat corpus"):
        make_release(run, "corpus", REPO)
    run.clear("train_user")
    with pytest.raises(InputError, match="has no user-model yet: `realchat train-user"):
        make_release(run, "user-model", REPO)


def test_a_missing_report_is_told(tmp_path):
    run = make_run(tmp_path / "small")
    run.report.unlink()
    release = make_release(run, "corpus", REPO)
    assert REPORT not in {f.path for f in release.files}
    assert release.left_out[0].startswith("report.html: not made yet")


def test_a_model_goes_without_pickles_and_without_folders_of_this_machine(tmp_path):
    run = make_run(tmp_path / "small")
    before = {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file()}
    release = make_release(run, "user-model", REPO)
    paths = {f.path for f in release.files}
    assert paths == {"model.safetensors", "config.json", "realchat.json", CARD, MANIFEST}
    assert release.left_out == ("optimizer.pt: not part of a checkpoint",)
    assert json.loads(text_of(release, "realchat.json"))["base"] == "small-base"
    assert json.loads(text_of(release, "realchat.json"))["perplexity"]["after"] == 12.25
    assert not any("/home/somebody" in text_of(release, p) for p in paths)
    assert {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file()} == before


def test_an_adapter_beside_a_checkpoint_names_no_folder_of_this_machine_either(tmp_path):
    run = make_run(tmp_path / "small")
    adapter, base = run.user_model / "adapter", "/home/somebody/models/small-base"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": base, "r": 8})
    )
    (adapter / "realchat.json").write_text(json.dumps({"opens": "user", "base": base}))
    release = make_release(run, "user-model", REPO)
    assert json.loads(text_of(release, "adapter/adapter_config.json")) == {
        "base_model_name_or_path": "small-base",
        "r": 8,
    }
    assert json.loads(text_of(release, "adapter/realchat.json"))["base"] == "small-base"
    assert not any("/home/somebody" in text_of(release, f.path) for f in release.files)


def test_a_models_own_card_is_kept(tmp_path):
    run = make_run(tmp_path / "small")
    (run.assistant_model / CARD).write_text("---\nlicense: gemma\n---\nmine\n")
    release = make_release(run, "assistant-model", REPO, "the people said yes")
    assert text_of(release, CARD).endswith("mine\n")


def test_a_models_license_is_folded_from_its_base_and_what_it_learnt_from(tmp_path):
    run = make_run(tmp_path / "small")
    assert make_release(run, "user-model", REPO).permission.license == "apache-2.0"
    given = make_release(run, "assistant-model", REPO).permission  # of a Gemma
    assert given.license == "gemma"
    mixed = make_run(tmp_path / "mixed", rows_under="cc-by-sa-4.0")
    with pytest.raises(InputError, match=r"mix of cc-by-sa-4\.0, gemma"):
        make_release(mixed, "assistant-model", REPO, "but I want to")
    unstated = make_run(tmp_path / "unstated", rows_under="unstated")
    with pytest.raises(InputError, match="realchat: unstated, 5 conversations"):
        make_release(unstated, "user-model", REPO)
