"""Plans of whole episodes in a maze with forks, given their start and their goal, by a transformer.

python -m diffjax.train --config=configs/maze_plans.py --workdir=runs/maze_plans
python -m diffjax.evaluate --workdir=runs/maze_plans --metrics=success:execute=16

A plan has 16 rows of the state at every fourth step and the four actions before it, 64 steps in
all.
"""

import ml_collections

from ml_collections_configs import parts, series


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        series.get_config().to_dict(),
        data=dict(
            name="demonstrations",
            environment="maze",
            episodes=5000,
            horizon=16,
            every=4,
            noise=0.01,
        ),
        network=dict(width=128, depth=4, heads=4, modulation="shared"),
        loss=dict(shared=1.0, past=0.0, between=1.0),
        optimizer=dict(learning_rate=2e-3, schedule=dict(name="cosine", length=4000)),
        sampling=dict(sampler=dict(name="dpmpp_2m"), steps=20),
        train=dict(steps=4000, batch_size=64, sample_every=4000, samples=36),
    )
