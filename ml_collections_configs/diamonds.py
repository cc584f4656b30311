"""Rows of the table of 53,940 diamonds: 7 numbers as normal scores, 3 categories, by an MLP.

pip install "diffjax[diamonds]"
python -m diffjax.train --config=configs/diamonds.py --workdir=runs/diamonds
"""

import ml_collections

from ml_collections_configs import moons_vp, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        moons_vp.get_config().to_dict(),
        data=dict(name="diamonds", labels=False),
        sde=dict(schedule=dict(name="cosine")),
        network=dict(width=256, depth=4),
        loss=dict(condition_dropout=0.0),
        optimizer=dict(learning_rate=2e-3, schedule=dict(name="cosine", length=4000)),
        sampling=dict(sampler=dict(name="dpmpp_2m"), steps=40),
        train=dict(steps=4000, batch_size=512),
    )
