"""Write the distances of the package `lpips`, for test_lpips.py; run by hand and committed.

    pip install torch torchvision lpips
    python tests/parity/make_lpips.py tests/parity/lpips.npz

Made with torch 2.13.0 (CPU), torchvision 0.28.0, lpips 0.1.4 and numpy 2.4.6.

`drawn` of `make_features.py` draws each tensor of the backbones from its name, and the test repeats
that. The weights of the channels are the trained ones, which the package contains under the
BSD-2-Clause licence; the file holds them together with that licence. It also holds the distances of
each level, and the gradient in the second image.
"""

import importlib.metadata
import json
import sys
import warnings

import numpy as np
from make_features import drawn

NETS, SIDE = ("squeeze", "alex", "vgg"), (37, 44)


def images() -> np.ndarray:
    """Two pairs of images (2, 2, H, W, 3) in [-1, 1]; those of a pair are near each other."""
    rng = np.random.default_rng(0)
    first = rng.uniform(-1, 1, (2, *SIDE, 3))
    second = np.clip(first + rng.normal(size=first.shape) * 0.2, -1, 1)
    return np.stack([first, second]).astype(np.float32)


def distance(net: str) -> dict[str, np.ndarray]:
    import torch
    from lpips import LPIPS

    model = LPIPS(net=net, pnet_rand=True, verbose=False)
    shapes = {}
    for name, tensor in model.net.state_dict().items():
        name_in_file = "features." + name.partition(".")[2]
        shapes[name_in_file] = list(tensor.shape)
        tensor.copy_(torch.from_numpy(drawn(name_in_file, tuple(tensor.shape))))
    first, second = (torch.from_numpy(a.transpose(0, 3, 1, 2)) for a in images())
    second.requires_grad_()
    total, levels = model(first, second, retPerLayer=True)
    (gradient,) = torch.autograd.grad(total.sum(), second)
    stored = {"shapes": np.asarray(json.dumps(shapes))}
    stored |= {"total": total.flatten(), "gradient": gradient.permute(0, 2, 3, 1)[:, ::4, ::4]}
    stored["levels"] = torch.stack([level.flatten() for level in levels])
    channels = [(k, v) for k, v in model.state_dict().items() if k[:3] == "lin" and k[3] != "s"]
    stored |= {f"linear/{k}": v for k, v in channels}
    return {k: v.detach().numpy() if hasattr(v, "detach") else v for k, v in stored.items()}


def licence() -> str:
    file = next(f for f in importlib.metadata.files("lpips") or [] if f.name == "LICENSE")
    return file.read_text()


def main(path: str) -> None:
    warnings.simplefilter("ignore")
    arrays = {"licence of linear": np.asarray(licence())}
    for net in NETS:
        arrays |= {f"{net}/{k}": v for k, v in distance(net).items()}
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
