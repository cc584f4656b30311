"""Digits enlarged from 4x4 to 8x8 pixels: digits_vp under a noised smaller version of each image.

python -m diffjax.train --config=configs/digits_base.py --workdir=runs/digits_base
python -m diffjax.train --config=configs/digits_enlarged.py --workdir=runs/digits_enlarged
python -m diffjax.sample --workdir=runs/digits_base --then=runs/digits_enlarged,tau=0.6

As long as digits_vp. 1,000 samples of both stages, with 20 steps each, have 1.69 times the floor of
the Frechet distance at tau=0 and 1.22 times at tau=0.6, and 98.9 % and 98.2 % have the class asked
for (experiments/cascades).
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
