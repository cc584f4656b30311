"""Small folders of published encoders with random tensors, as tests name them in configs."""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np

from diffjax.io import reading

HERE = Path(__file__).parent
STORED = np.load(HERE / "parity/text.npz")
POSITIONS, KNOWN = 64, 600
"""Numbers of positions and of tokens."""
TOKENIZERS = {
    **{"clip": "clip", "bigg": "merges", "bert": "bert", "t5": "t5", "umt5": "pieces"},
    **{"gemma2": "bert", "qwen3": "clip"},
}
"""The tokenizer of each network of the parity test."""


def drawn(name: str, shape: list[int], seed: int) -> np.ndarray:
    """Draw the tensor of this name, float32."""
    values = np.random.default_rng([seed, zlib.crc32(name.encode())]).normal(size=shape)
    return (0.3 * values).astype(np.float32)


def folder(path: Path, name: str, seed: int = 0, width: int = 24) -> Path:
    """Write the network of this name with its tokenizer, as a folder of Hugging Face."""
    sizes = {50: KNOWN, 10: POSITIONS, 24: width}
    shapes = json.loads(str(STORED[f"{name}/shapes"]))
    config = json.loads(str(STORED[f"{name}/config"])) | {"vocab_size": KNOWN}
    if "max_position_embeddings" in config:
        config["max_position_embeddings"] = POSITIONS
    if "d_model" in config:
        config["d_model"] = width
    if "model_type" not in config or name == "bigg":
        config |= {"model_type": "clip_text_model", "eos_token_id": 522}
    tensors = {k: drawn(k, [sizes.get(n, n) for n in s], seed) for k, s in shapes.items()}
    shutil.copytree(HERE / "encoders/tokenizers" / TOKENIZERS[name], path)
    (path / "config.json").write_text(json.dumps(config))
    reading.write(path / "model.safetensors", tensors, {"format": "pt"})
    return path
