"""A policy that pushes a block to a goal: 16 actions given an observation, by an MLP.

python -m diffjax.train --config=configs/push.py --workdir=runs/push
python -m diffjax.evaluate --workdir=runs/push --metrics=success:num=2000

Training took 6 minutes of wall-clock on a CPU that other work shared. Of 2,000 episodes 96.2 %
succeed (95.3 to 97.0), and of those that may go either way around the block 94.2 %; the expert
succeeds in all (experiments/policies).
"""

import ml_collections

from ml_collections_configs import maze, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(maze.get_config().to_dict(), data=dict(environment="push"))
