"""The house rules that linters do not check: sizes, names, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("usersim", "assistant", "pipelines", "ray_jobs")
SOURCES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "misc"}
HEAVY = (
    "torch", "transformers", "trl", "peft", "accelerate", "vllm", "ray", "datasets", "datasketch",
    "fasttext", "altair", "pyarrow", "numpy", "huggingface_hub", "httpx",
    "sklearn", "scipy",
)  # fmt: skip
# Loaded by vLLM inside the engine's own process only; loaded inside functions only.
ELSEWHERE = {  # loaded by vLLM in its own process, or inside functions only
    "usersim.engines.nucleus",
    "usersim.engines.nucleus_kernel",
    "usersim.shingle_kernel",
    "pipelines.dedup_kernel",
    "pipelines.repetition_kernel",
}
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 400, 60, 6


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters(function) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([a for a in named if a.arg not in ("self", "cls")])


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_files_are_short_and_named_for_what_they_hold(path):
    num_lines = path.read_text(encoding="utf-8").count("\n")
    assert num_lines <= MAX_FILE_LINES
    assert path.stem not in FORBIDDEN


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_are_short_and_take_few_parameters(path):
    found = functions(path)
    long = [f.name for f in found if f.end_lineno - f.lineno >= MAX_FUNCTION_LINES]
    wide = [f.name for f in found if parameters(f) > MAX_PARAMETERS]
    assert (long, wide) == ([], [])


def test_half_of_the_functions_are_shorter_than_ten_lines():
    lengths = sorted(f.end_lineno - f.lineno + 1 for path in SOURCES for f in functions(path))
    assert lengths[len(lengths) // 2] < 10


def test_every_module_has_a_docstring():
    without = [name_of(p) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text()))]
    assert without == []


def test_tests_mirror_the_tree():
    """A test file is named after the module it shows, or after a part of it."""
    strangers = []
    for path in TESTS:
        folder = path.parent.relative_to(ROOT / "tests")
        if path.name.startswith("test_") and folder.parts and (ROOT / folder).is_dir():
            modules = {p.stem for p in (ROOT / folder).iterdir()}
            topic = path.stem.removeprefix("test_")
            if not any(topic == m or topic.startswith(f"{m}_") for m in modules):
                strangers.append(name_of(path))
    assert strangers == []


def in_new_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_imports_without_the_heavy_libraries():
    modules = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for p in SOURCES
        if p.parts[len(ROOT.parts)] != "ray_jobs"
    ]
    modules = [name for name in modules if name not in ELSEWHERE]
    in_new_process(
        "import sys, importlib\n"
        f"sys.modules.update(dict.fromkeys({HEAVY!r}))\n"  # None: importing it raises ImportError
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["doctor", "--brief"]])
def test_the_command_answers_without_importing_anything_heavy(arguments):
    loaded = in_new_process(
        "import sys, contextlib, io\n"
        f"sys.argv = ['realchat', *{arguments!r}]\n"
        "from pipelines.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    assert loaded.strip() == "[]"
