"""8x8 digits in few steps from scratch: a shortcut model (arXiv:2410.12557).

python -m diffjax.train --config=configs/digits_shortcut.py --workdir=runs/digits_shortcut

A step of length 2 d leads where two steps of length d do, for d = 1/128, 1/64, ... 1/2 of the time;
three quarters of each batch train the shortest step, the denoiser. Sample in a power of 2 steps:
`sample --steps=4`.
"""

import ml_collections

from ml_collections_configs import digits_psd, parts


def get_config() -> ml_collections.ConfigDict:
    base = digits_psd.get_config().to_dict()
    shortcut = dict(pair=dict(name="dyadic", steps=128), diagonal=0.75)
    return parts.changed(base, loss={**base["loss"], **shortcut})
