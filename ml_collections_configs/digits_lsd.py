"""8x8 digits in few steps from scratch: the Lagrangian rule of flow maps, LSD (arXiv:2505.18825).

python -m diffjax.train --config=configs/digits_lsd.py --workdir=runs/digits_lsd

Network, process and data are those of digits_vp, with a second time. digits_psd, digits_shortcut,
digits_meanflow and digits_consistency train the same network by other rules. `sample --steps=4`
takes other numbers of steps.
"""

import ml_collections

from ml_collections_configs import digits_vp, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        digits_vp.get_config().to_dict(),
        network=dict(conditions=dict(to=dict(size=1, scale=0.02))),
        loss=dict(
            name="flow_map",
            rule=dict(name="lagrangian"),
            pair=dict(name="ordered"),
            velocity=dict(name="own"),
            draw=dict(name="uniform"),
            diagonal=0.5,
            condition_dropout=0.1,
        ),
        sampling=dict(sampler=dict(name="flow_map"), grid=dict(name="nested"), steps=1),
        train=dict(steps=2400),
    )
