"""Class-conditional 4x4 digits: digits_vp on block averages, the first stage of a cascade.

python -m diffjax.train --config=configs/digits_base.py --workdir=runs/digits_base

A quarter of the FLOPs of digits_vp, 25 MFLOPs per image. 1,000 samples with 20 steps have 1.70
times the floor of the Frechet distance, and 90.6 % the class asked for (experiments/cascades).
"""

import ml_collections

from ml_collections_configs import digits_vp, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(digits_vp.get_config().to_dict(), data=dict(reduced=dict(factor=2)))
