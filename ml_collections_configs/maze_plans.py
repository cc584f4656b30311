"""Plans of whole episodes in a maze with forks, given their start and their goal, by a transformer.

python -m diffjax.train --config=configs/maze_plans.py --workdir=runs/maze_plans
python -m diffjax.evaluate --workdir=runs/maze_plans --metrics=success:execute=16

A plan has 32 rows of the state at every second step and the two actions before it, 64 steps in all.
"""

import ml_collections

from ml_collections_configs import parts, series


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        series.get_config().to_dict(),
        data=dict(name="demonstrations", environment="maze", episodes=5000, horizon=32, every=2),
        network=dict(width=96, depth=4, heads=4, modulation="shared"),
        loss=dict(weight=dict(name="uniform_x0"), shared=1.0, past=0.0, between=1.0),
        optimizer=dict(learning_rate=2e-3, schedule=dict(name="cosine", length=2500)),
        sampling=dict(sampler=dict(name="dpmpp_2m"), steps=10),
        train=dict(steps=2500, batch_size=64, sample_every=2500, checkpoint_every=500, samples=36),
    )
