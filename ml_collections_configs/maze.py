"""A policy for a maze with forks: 16 actions given an observation, by an MLP.

python -m diffjax.train --config=configs/maze.py --workdir=runs/maze
python -m diffjax.evaluate --workdir=runs/maze --metrics=success

14 minutes of a shared core. Of 2,000 episodes 95.7 % succeed (94.7 to 96.5), and of those with a
fork on the way 89.6 % (experiments/policies).
"""

import ml_collections

from ml_collections_configs import moons_vp, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        moons_vp.get_config().to_dict(),
        data=dict(name="demonstrations", environment="maze", episodes=5000, conditions=("vector",)),
        sde=dict(schedule=dict(name="cosine")),
        network=dict(width=256, depth=4, conditions=dict(vector=dict(layers=2))),
        loss=dict(weight=dict(name="uniform_x0"), condition_dropout=0.0),
        optimizer=dict(learning_rate=1.5e-3, schedule=dict(name="cosine", length=5000)),
        sampling=dict(sampler=dict(name="dpmpp_2m"), steps=10),
        train=dict(steps=5000, batch_size=256, samples=64, sample_every=2500),
    )
