"""What a manifest tells of the environments that an agent has learned in."""

from __future__ import annotations

from rl_framework.checkpoints.manifest import Manifest
from rl_framework.core.spaces import space_from_json
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.errors import CorruptArchiveError


def read_spec(manifest: Manifest) -> EnvSpec:
    """Spaces, number of rows and whether there are masks.

    Raises:
        CorruptArchiveError: The manifest tells no spaces.
    """
    if manifest.observation_space is None or manifest.action_space is None:
        raise CorruptArchiveError("The manifest tells no spaces.")
    return EnvSpec(
        n_envs=int(manifest.options["n_envs"]),
        observation_space=space_from_json(manifest.observation_space),
        action_space=space_from_json(manifest.action_space),
        has_action_masks=bool(manifest.options["has_action_masks"]),
    )
