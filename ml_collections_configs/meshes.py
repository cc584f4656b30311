"""Clouds of 256 points on the surfaces of 1,000 objects, by a DiT whose tokens are points.

python -m diffjax.train --config=configs/meshes.py --workdir=runs/meshes
"""

import ml_collections

from ml_collections_configs import moons_vp, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        moons_vp.get_config().to_dict(),
        data=dict(name="meshes", points=256, labels=False),
        sde=dict(schedule=dict(name="cosine")),
        network=dict(
            name="dit", width=96, depth=4, heads=2, patch=1, positions="none", qk_norm=True
        ),
        loss=dict(condition_dropout=0.0),
        optimizer=dict(learning_rate=2e-3),
        sampling=dict(sampler=dict(name="dpmpp_2m"), steps=40),
        train=dict(
            steps=3000,
            batch_size=16,
            steps_per_dispatch=10,
            sample_every=3000,
            checkpoint_every=200,
            samples=16,
        ),
    )
