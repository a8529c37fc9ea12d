"""The networks that learn a reward: the library's by name, or a user's class, with what their constructors take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from imitation.rewards.reward_nets import CnnRewardNet, NormalizedRewardNet, RewardNet
from imitation.util import networks

from rl_framework.agent.imitation.imitation.rows import constructor_parameters
from rl_framework.agent.reinforcement.stable_baselines.parameters import decode, encode
from rl_framework.core.references import reference_to, resolve
from rl_framework.errors import InvalidInputError, UnknownOptionError

REWARD_NETS = {
    "basic": "imitation.rewards.reward_nets:BasicRewardNet",
    "basic_shaped": "imitation.rewards.reward_nets:BasicShapedRewardNet",
    "cnn": "imitation.rewards.reward_nets:CnnRewardNet",
}
SPACES = ("observation_space", "action_space")
NORMALIZE_OUTPUT = "normalize_output_layer"


@dataclass(frozen=True, slots=True)
class RewardNetPlan:
    """What a reward network is made from.

    Attributes:
        net_class: The library's class, or one derived from its `RewardNet` that takes the two spaces first.
        parameters: What the constructor takes beside the spaces; `normalize_output_layer` (a class, such as the
            library's `RunningNorm`) puts the library's normalisation of rewards around it.
    """

    net_class: type[RewardNet]
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        known = _known_parameters(self.net_class)
        for name in self.parameters:
            if name in SPACES:
                raise InvalidInputError(f"Parameter {name!r} of {self.net_class.__name__} is set here.")
            if known is not None and name not in known:
                raise UnknownOptionError.of(f"parameter of {self.net_class.__name__}", name, known)

    def build(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> RewardNet:
        """Make a network for these spaces.

        Raises:
            InvalidInputError: The class refuses the spaces or a parameter.
        """
        own = {name: value for name, value in self.parameters.items() if name != NORMALIZE_OUTPUT}
        layer = self.parameters.get(NORMALIZE_OUTPUT)
        try:
            net = self.net_class(observation_space, action_space, **own)
            return net if layer is None else NormalizedRewardNet(net, layer)
        except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
            raise InvalidInputError(
                f"The reward network {self.net_class.__name__} cannot be built for observations {observation_space} "
                f"and actions {action_space} with these parameters: {error}"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"class": reference_to(self.net_class), "parameters": encode(dict(self.parameters))}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], trust: Sequence[str]) -> RewardNetPlan:
        """Take back what `to_json` gave.

        Raises:
            UnsafeArchiveError: It names a class outside the trusted modules.
        """
        return cls(resolve(data["class"], trust=trust), decode(data["parameters"], trust=trust))


def as_reward_net_plan(
    reward_net: str | type[RewardNet] | None, parameters: Mapping[str, Any], *, default: str
) -> RewardNetPlan:
    """The plan of what a user asks for.

    Args:
        reward_net: A name of `REWARD_NETS`, a class, or None for the algorithm's own choice.
        parameters: What the constructor takes beside the spaces.
        default: Name of the algorithm's own choice.

    Raises:
        UnknownOptionError: There is no such name, or no such parameter.
        InvalidInputError: It is no class of reward networks.
    """
    named = default if reward_net is None else reward_net
    if isinstance(named, str):
        if named not in REWARD_NETS:
            raise UnknownOptionError.of("reward network", named, REWARD_NETS)
        named = resolve(REWARD_NETS[named])
    if not (isinstance(named, type) and issubclass(named, RewardNet)):
        raise InvalidInputError(
            f"reward_net must be one of {', '.join(REWARD_NETS)}, or a class derived from the library's RewardNet; "
            f"got {named!r}. What its constructor takes belongs into reward_net_parameters."
        )
    return RewardNetPlan(named, dict(parameters))


def _known_parameters(net_class: type[RewardNet]) -> set[str] | None:
    """Names that a constructor takes; None where it hands on names that nobody tells."""
    known = constructor_parameters(net_class) - set(SPACES) | {NORMALIZE_OUTPUT}
    if all(each.kind is not each.VAR_KEYWORD for each in inspect.signature(net_class).parameters.values()):
        return known
    return known | _layer_parameters(net_class) if net_class.__module__.startswith("imitation.") else None


def _layer_parameters(net_class: type[RewardNet]) -> set[str]:
    """Names that the library's networks hand on to its functions that build layers."""
    builder = networks.build_cnn if issubclass(net_class, CnnRewardNet) else networks.build_mlp
    set_there = {"in_size", "out_size", "squeeze_output", "in_channels"}
    return set(inspect.signature(builder).parameters) - set_there
