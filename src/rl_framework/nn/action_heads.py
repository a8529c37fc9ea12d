"""From features to actions: what a network's last layer says about each kind of action space.

A head knows three forms of an action: the environment's own; targets, which distributions work on (choices counted
from 0, bits as 0.0 and 1.0, Box numbers with [low, high] scaled to [-1, 1] where both bounds are finite); and the
outputs of the network, from which a distribution over targets is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from rl_framework.core.spaces import leaf_spaces, map_space
from rl_framework.core.trees import Tree, map_tree
from rl_framework.errors import SpaceError
from rl_framework.nn.action_codecs import ActionCodec
from rl_framework.nn.action_parts import ActionPart, BoxOptions, BoxPart, make_part, register_box_distribution
from rl_framework.nn.distributions import Distribution, Joint

__all__ = ["ActionCodec", "ActionHead", "ActionPart", "BoxOptions", "BoxPart", "register_box_distribution"]


class ActionHead(nn.Module):
    """A linear layer and what its outputs mean for an action space. Its first weights are torch's own.

    Args:
        n_inputs: Number of features that come in.
        space: The actions.
        has_spread: Whether Box numbers are distributed around the outputs; otherwise they are point estimates.
        box_distribution: How they are: `normal`, with standard deviations that are learned, `squashed_normal` (tanh
            of normal numbers, only for bounded Box), or a name given to `register_box_distribution`.
        log_std_init: Logarithm of the standard deviation at first, with [low, high] as [-1, 1].
        state_dependent_std: Whether the standard deviation is an output of the layer.

    Attributes:
        linear: The layer.
        parts: Per leaf of the action space, what its outputs mean.
        codec: Turns the environment's actions into targets and back.

    Raises:
        SpaceError: The space is not supported, does not fit the distribution, or leaves nothing to choose.
        UnknownOptionError: There is no such distribution.
        InvalidInputError: An option is out of range, or has no effect.
    """

    def __init__(
        self,
        n_inputs: int,
        space: gym.Space[Any],
        *,
        has_spread: bool = True,
        box_distribution: str = "normal",
        log_std_init: float = 0.0,
        state_dependent_std: bool = False,
    ) -> None:
        super().__init__()
        options = BoxOptions(
            has_spread=has_spread,
            box_distribution=box_distribution,
            log_std_init=log_std_init,
            state_dependent_std=state_dependent_std,
        )
        self.codec = ActionCodec(space)
        parts = [make_part(leaf, options) for _, leaf in leaf_spaces(space)]
        self.parts = nn.ModuleList(parts)
        self._parts = tuple(parts)  # to walk through a ModuleList costs more than to make a distribution
        self._sizes = [part.n_outputs for part in parts]
        if sum(self._sizes) == 0:
            raise SpaceError(f"Actions of {space} hold no numbers, so there is nothing to choose.")
        numbers = iter(range(len(parts)))
        self._structure: Tree = map_space(lambda _: next(numbers), space)
        self.linear = nn.Linear(n_inputs, sum(self._sizes))

    def forward(self, features: Tensor) -> Tensor:
        """The outputs of the layer. `[B, n_inputs]` to `[B, n_outputs]`"""
        outputs: Tensor = self.linear(features)
        return outputs

    def distribution(self, outputs: Tensor, masks: Tensor | None = None) -> Distribution:
        """What the outputs mean.

        Args:
            outputs: Of the layer. `[B, n_outputs]`
            masks: True for choices that are allowed, as `Policy.act` takes them; those of the entries of a Dict or
                Tuple lie side by side in visiting order. Box numbers have no choices, and masks no effect on a Box.
                `[B, n]`

        Raises:
            SpaceError: The masks do not fit the space, or, on the CPU, allow nothing in some row.
        """
        if not isinstance(self._structure, dict | tuple):
            return self._parts[0].distribution(outputs, masks)
        pieces = torch.split(outputs, self._sizes, dim=1)
        allowed = self._mask_pieces(masks)
        return Joint(map_tree(lambda at: self._parts[at].distribution(pieces[at], allowed[at]), self._structure))

    def targets(self, actions: Tree) -> Tree:
        """Targets of the environment's actions. `[B, ...]` per leaf"""
        return self.codec.targets(actions)

    def actions(self, targets: Tree) -> Tree:
        """The environment's actions of targets: shaped, in its own units, within bounds. `[B, ...]` per leaf"""
        return self.codec.actions(targets)

    def check(self, targets: Tree) -> None:
        """Refuse targets of actions that the space does not have; see `ActionCodec.check`. `[B, ...]` per leaf"""
        self.codec.check(targets)

    def differences(self, chosen: Tree, wanted: Tree) -> dict[str, Tensor]:
        """How far chosen targets are from wanted ones, row by row; see `ActionCodec.differences`."""
        return self.codec.differences(chosen, wanted)

    def _mask_pieces(self, masks: Tensor | None) -> list[Tensor | None]:
        if masks is None:
            return [None] * len(self._parts)
        sizes = [part.n_masks for part in self._parts]
        if masks.shape[1] != sum(sizes):
            raise SpaceError(f"The action space has {sum(sizes)} choices to mask, the masks tell of {masks.shape[1]}.")
        pieces = torch.split(masks, sizes, dim=1)
        return [piece if size else None for piece, size in zip(pieces, sizes, strict=True)]
