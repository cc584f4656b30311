"""Write the decisions of diffusers' safety checker, for test_safety.py; run by hand.

    pip install torch diffusers transformers
    python tests/parity/make_safety.py tests/parity/safety.npz

Made with torch 2.13.0 (CPU), diffusers 0.42.1, transformers 5.24.0 and numpy 2.4.6.

The file holds no weights: `drawn` of make_features.py draws each tensor by its name. The limits of
concepts move over `SHIFTS`, and those of special concepts over `SPECIAL`, so that decisions change.
"""

import json
import sys

import numpy as np
from make_features import drawn, normalised, redraw

SIZE = 56
SHIFTS = np.linspace(-0.4, 0.6, 201)
SPECIAL = (-0.5, 0.0, 0.5)


def limits(name: str, count: int, shift: float) -> np.ndarray:
    """The limits of concepts: a tenth of what is drawn for their name, and a shift."""
    return drawn(name, (count,)) / 10 + np.float32(shift)


def main(path: str) -> None:
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    torch.set_grad_enabled(False)
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2}
    vision |= {"num_hidden_layers": 2, "patch_size": 14, "image_size": SIZE}
    net = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=32)).eval()
    shapes, x = redraw(net), normalised("clip", SIZE)
    decisions = np.zeros((len(SPECIAL), len(SHIFTS), len(x)), bool)
    for i, special in enumerate(SPECIAL):
        name = "special_care_embeds_weights"
        net.special_care_embeds_weights.copy_(torch.from_numpy(limits(name, 3, special)))
        for j, shift in enumerate(SHIFTS):
            name = "concept_embeds_weights"
            net.concept_embeds_weights.copy_(torch.from_numpy(limits(name, 17, shift)))
            _, decisions[i, j] = net(x, [np.zeros(1)] * len(x))
    np.savez_compressed(path, shapes=shapes, decisions=decisions)
    print(json.loads(shapes).keys(), decisions.sum(1))


if __name__ == "__main__":
    main(sys.argv[1])
