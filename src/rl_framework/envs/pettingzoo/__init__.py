"""PettingZoo's games of several agents as rows of a vector environment.

Importing anything from here needs the extra `pettingzoo`.
"""

from importlib.util import find_spec

from rl_framework.errors import MissingExtraError

if find_spec("pettingzoo") is None:
    raise MissingExtraError("Playing a game of PettingZoo", "pettingzoo")
