"""The published networks as settings: `network=dict(ADM, dropout=0.0)`.

Noise labels are a matter of the parameterization: DDPM, DDPM++ and ADM were trained with times in
[0, 1000), NCSN++ with log sigma, all networks of EDM with a quarter of it.
"""

from typing import Any

DDPM: dict[str, Any] = dict(
    name="unet",
    channels=128,
    multipliers=(1, 2, 2, 2),
    blocks=2,
    attention=(16,),
    heads=1,
    dropout=0.1,
    epsilon=1e-6,
)
"""For CIFAR-10 (arXiv:2006.11239, app. B): 35.7 M parameters."""

DDPMPP: dict[str, Any] = dict(
    name="unet",
    channels=128,
    multipliers=(2, 2, 2),
    blocks=4,
    attention=(16,),
    heads=1,
    last_attends=True,
    early_conditions=True,
    resample="projected_block",
    rescale=True,
    dropout=0.13,
    epsilon=1e-6,
)
"""EDM's for CIFAR-10 (arXiv:2206.00364, table 7): 55.7 M; with (1, 2, 2, 2) that of the paper it
comes from (arXiv:2011.13456): 61.8 M."""

NCSNPP: dict[str, Any] = dict(
    DDPMPP,
    embedding="fourier",
    kernel=(1, 3, 3, 1),
    input_pyramid="residual",
)
"""EDM's for CIFAR-10: 56.4 M; with (1, 2, 2, 2) that of arXiv:2011.13456: 62.8 M."""

ADM: dict[str, Any] = dict(
    name="unet",
    channels=256,
    multipliers=(1, 1, 2, 2, 4, 4),
    blocks=2,
    attention=(32, 16, 8),
    head_channels=64,
    embedding="adm",
    resample="block",
    scale_shift=True,
    learn_variance=True,
    dropout=0.0,
)
"""For ImageNet at 256 x 256 (arXiv:2105.05233): 553.8 M with 1000 classes."""

ADM64: dict[str, Any] = dict(ADM, channels=192, multipliers=(1, 2, 3, 4), blocks=3, dropout=0.1)
"""For ImageNet at 64 x 64: 295.9 M; EDM's has learn_variance=False."""

EDM2S: dict[str, Any] = dict(name="edm2", channels=192)
"""EDM2-S for ImageNet, latents of 64 x 64 (arXiv:2312.02696): 280.2 M; XS is channels=128."""
