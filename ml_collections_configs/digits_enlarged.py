"""Digits enlarged from 4x4 to 8x8 pixels: digits_vp under a noised smaller version of each image.

python -m diffjax.train --config=configs/digits_enlarged.py --workdir=runs/digits_enlarged
"""

import ml_collections

from ml_collections_configs import digits_vp, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        digits_vp.get_config().to_dict(),
        data=dict(enlarged=dict(factor=2, levels=(0.0, 1.0))),
        loss=dict(condition_dropout=dict(label=0.1)),
        sampling=dict(guidance=dict(weight=1.0, reference="several")),
    )
