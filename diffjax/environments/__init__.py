"""Environments as pure functions, their experts, and episodes of policies in them.

`ENVIRONMENTS` is the catalogue. Each environment is one file.
"""

from diffjax import config
from diffjax.environments.base import Environment
from diffjax.environments.episodes import Demonstrations, Episodes, Policy, demonstrate, episodes
from diffjax.environments.gymnasium import HostEpisodes, gymnasium_episodes
from diffjax.environments.maze import Maze
from diffjax.environments.push import Push

ENVIRONMENTS: dict[str, type[Environment]] = {"maze": Maze, "push": Push}

__all__ = [
    "ENVIRONMENTS",
    "Demonstrations",
    "Environment",
    "Episodes",
    "HostEpisodes",
    "Maze",
    "Policy",
    "Push",
    "demonstrate",
    "environment",
    "episodes",
    "gymnasium_episodes",
]


def environment(name: str) -> Environment:
    """Return the environment of this name with its default settings, or that of `module:CLASS`.

    Raises ValueError for an unknown name.

    >>> environment("maze").action
    2
    """
    return config.lookup(ENVIRONMENTS, name, "environment")()
