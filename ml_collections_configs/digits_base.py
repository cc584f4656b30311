"""Class-conditional 4x4 digits: digits_vp on block averages, the first stage of a cascade.

python -m diffjax.train --config=configs/digits_base.py --workdir=runs/digits_base
"""

import ml_collections

from ml_collections_configs import digits_vp, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(digits_vp.get_config().to_dict(), data=dict(reduced=dict(factor=2)))
