"""What a model that lies in a folder is: many deployments mount theirs at the same path."""

from __future__ import annotations

import hashlib
from pathlib import Path

from membrain.vllm.options import WrongSetting

SAMPLES = 16  # of each file of weights, spread evenly over it, its end among them
SAMPLE_BYTES = 64 << 10
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def fingerprint(path: str) -> str:
    """Of the model in this folder, or file; empty if there is neither. Equal where the files are,
    wherever that is: of config.json, and of each file of weights its name, size and samples."""
    model = Path(path)
    try:
        if model.is_dir():
            inside = sorted(model.iterdir())
            files = [one for one in inside if one.suffix in WEIGHTS and one.is_file()]
            config = model / "config.json"
            digest = hashlib.sha256(config.read_bytes() if config.is_file() else b"")
        elif model.is_file():
            files, digest = [model], hashlib.sha256()
        else:
            return ""
        for one in files:
            _sample(one, digest)
    except OSError as error:
        raise WrongSetting(
            f"{path}: the model's files cannot be read ({error}), and they say what its cache may"
            " be shared with. Let the engine read them, or name the model otherwise"
        ) from error
    return digest.hexdigest()[:32]


def _sample(file: Path, digest: hashlib._Hash) -> None:
    size = file.stat().st_size
    digest.update(f"{file.name} {size}\n".encode())
    last = max(0, size - SAMPLE_BYTES)
    with file.open("rb") as content:
        for start in sorted({last * number // (SAMPLES - 1) for number in range(SAMPLES)}):
            content.seek(start)
            digest.update(content.read(SAMPLE_BYTES))
