"""A policy that pushes a block to a goal: 16 actions given an observation, by an MLP.

python -m diffjax.train --config=configs/push.py --workdir=runs/push
python -m diffjax.evaluate --workdir=runs/push --metrics=success
"""

import ml_collections

from ml_collections_configs import maze, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(maze.get_config().to_dict(), data=dict(environment="push"))
