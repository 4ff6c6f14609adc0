"""What a submitted job would carry along, and what is too much."""

from pathlib import Path

import pytest

from ray_jobs.package import check, files_of
from usersim.errors import InputError


@pytest.fixture
def folder(tmp_path):
    project = tmp_path / "project"  # whose parent holds nothing else
    for name, size in {"code.py": 10, "runs/big.bin": 5000, "sub/x.log": 7, "sub/y.py": 3}.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    (project / ".rayignore").write_text("runs/\n")
    (project / "sub" / ".gitignore").write_text("*.log\n")
    return project


def test_ignored_files_stay_at_home(folder):
    sent = {str(path.relative_to(folder)) for path in files_of(folder)}
    assert sent == {"code.py", "sub/y.py", ".rayignore", "sub/.gitignore"}
    assert check(folder) == sum((folder / name).stat().st_size for name in sent)


def test_too_much_is_refused_with_its_largest_parts(folder):
    (folder / ".rayignore").unlink()
    with pytest.raises(InputError, match=r"more than 0 MB \(runs/"):
        check(folder, largest=1000)
    with pytest.raises(InputError, match="no folder"):
        check(folder / "code.py")


def test_ray_would_send_the_same_files(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "sub").mkdir()
    (elsewhere / "sub" / "big.bin").write_bytes(bytes(7000))
    (folder / "linked").symlink_to(elsewhere)
    (folder / "gone").symlink_to(elsewhere / "gone")
    assert folder / "linked/sub/big.bin" in set(files_of(folder))
    packaging = pytest.importorskip("ray._private.runtime_env.packaging")
    sent = []
    packaging._dir_travel(folder, [], sent.append, include_gitignore=True)
    assert {p for p in sent if p.is_file()} == set(files_of(folder))


@pytest.mark.parametrize("target", ["..", ".", "sub", "other"])
def test_links_round_in_a_circle_are_refused(folder, target):
    (folder / "other").mkdir()
    (folder / "other" / "round").symlink_to(folder / "sub")
    (folder / "sub" / "round").symlink_to(folder / target)
    with pytest.raises(InputError, match=r"leads back .* \.rayignore"):
        check(folder)
    (folder / ".rayignore").write_text("runs/\nround/\n")
    assert check(folder)


def test_this_repository_is_small():
    assert check(Path(__file__).parents[2]) < 10 << 20
