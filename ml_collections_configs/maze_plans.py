"""Plans of whole episodes in a maze with forks, given their start and their goal, by an MLP.

python -m diffjax.train --config=configs/maze_plans.py --workdir=runs/maze_plans
python -m diffjax.evaluate --workdir=runs/maze_plans --metrics=success:execute=4

A plan has 16 rows of the state at every fourth step and the four actions before it, 64 steps in
all. Its first and its last row are known lanes. Training took 27 minutes of wall-clock on a CPU
that other work shared. Of 1,000 plans that are executed once 49 % reach the goal, and 74.5 % where
a new plan is made after 4 actions; the policy of the config maze reaches it in 96 %
(experiments/policies).
"""

import ml_collections

from ml_collections_configs import maze, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        maze.get_config().to_dict(),
        data=dict(horizon=16, every=4, noise=0.01),
        sde=dict(t_max=0.999),
        network=dict(lanes=True, width=384),
        loss=dict(
            name="forcing",
            weight=dict(name="uniform_output"),
            draw=dict(name="uniform", stratified=True),
            condition_dropout=0.0,
            shared=1.0,
            past=0.0,
            between=1.0,
        ),
        optimizer=dict(schedule=dict(name="cosine", length=8000)),
        sampling=dict(steps=20),
        train=dict(steps=8000, sample_every=8000, checkpoint_every=1000, samples=36),
    )
