"""8x8 digits in one or two steps from scratch: consistency training, iCT (arXiv:2310.14189).

python -m diffjax.train --config=configs/digits_consistency.py --workdir=runs/digits_consistency

Neighbouring times lead to the same data; their grid doubles from 10 intervals to 320. ECT
(arXiv:2406.14548) is `--config.loss.pair=ratio:every=300`; consistency distillation, which has a
teacher, is a setting of digits_lmd. The map leads to the data alone; `sample --steps=2` adds fresh
noise between two steps.
"""

import ml_collections

from ml_collections_configs import digits_lsd, parts


def get_config() -> ml_collections.ConfigDict:
    base = digits_lsd.get_config().to_dict()
    consistency = dict(
        rule=dict(name="discrete", gap=False),
        pair=dict(name="neighbours", first=10, most=320, every=400),
        velocity=dict(name="conditional"),
        diagonal=0.0,
    )
    return parts.changed(
        base,
        loss={**base["loss"], **consistency},
        sampling=dict(sampler=dict(name="flow_map", gamma=1.0)),
    )
