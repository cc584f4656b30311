"""8x8 digits in few steps from scratch: the semigroup rule of flow maps, PSD (arXiv:2505.18825).

python -m diffjax.train --config=configs/digits_psd.py --workdir=runs/digits_psd

Two steps of the map lead where one does; this needs two more passes per step of training and no
derivative of the network. `--config.loss.pair.middle=True` always divides a step in half.
"""

import ml_collections

from ml_collections_configs import digits_lsd, parts


def get_config() -> ml_collections.ConfigDict:
    base = digits_lsd.get_config().to_dict()
    semigroup = dict(rule=dict(name="semigroup"), velocity=dict(name="conditional"))
    return parts.changed(base, loss={**base["loss"], **semigroup})
