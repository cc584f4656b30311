"""8x8 digits in few steps from scratch: the Lagrangian rule of flow maps, LSD (arXiv:2505.18825).

python -m diffjax.train --config=configs/digits_lsd.py --workdir=runs/digits_lsd

Network, process and data are those of digits_vp, with a second time. Other methods are other
settings of the loss: MeanFlow is `--config.loss.rule=eulerian --config.loss.velocity=conditional`,
PSD `--config.loss.rule=semigroup --config.loss.velocity=conditional`. `sample --steps=4` takes
other numbers of steps.
"""

import ml_collections

from ml_collections_configs import digits_vp


def get_config() -> ml_collections.ConfigDict:
    config = digits_vp.get_config()
    config.network.conditions = ml_collections.ConfigDict(dict(to=dict(size=1)))
    config.loss = ml_collections.ConfigDict(
        dict(
            name="flow_map",
            rule=dict(name="lagrangian"),
            pair=dict(name="ordered"),
            velocity=dict(name="own"),
            draw=dict(name="uniform"),
            diagonal=0.5,
            condition_dropout=0.1,
        )
    )
    config.sampling.sampler = ml_collections.ConfigDict(dict(name="flow_map"))
    config.sampling.grid = ml_collections.ConfigDict(dict(name="nested"))
    config.sampling.steps = 1
    config.train.steps = 2400
    return config
