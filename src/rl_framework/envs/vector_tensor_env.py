"""Environments that step on the host, as tensors: one copy to the device and one back per step, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import override

from rl_framework.core.trees import Tree, map_tree
from rl_framework.envs.tensor_actions import TensorActionCheck
from rl_framework.envs.tensor_env import Device, TensorEnv, TensorStep, settled_device
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, StateLevel, VectorEnv, VectorStep
from rl_framework.errors import InvalidInputError


class VectorTensorEnv(TensorEnv):
    """A `TensorEnv` over any `VectorEnv`: Gymnasium's environments, one by one or vectorised, and SB3's.

    Observations in float64 become float32; all other numbers keep their type. The host knows what ended, so `final`
    is given only then, and the summaries of episodes are those of the environments.

    Args:
        vector_env: The environments; closing this object closes them.
        device: Where the tensors are.
    """

    def __init__(self, vector_env: VectorEnv, device: Device = "cpu") -> None:
        self.vector_env = vector_env
        self.device = settled_device(device)
        spec = vector_env.spec
        self._is_on_host = self.device.type == "cpu"
        self._check_actions = TensorActionCheck(spec.action_space, spec.n_envs, self.device)

    @property
    def spec(self) -> EnvSpec:  # type: ignore[override]  # Masks that travel in infos are known after the first reset.
        """What is known about the environments."""
        return self.vector_env.spec

    @property
    @override
    def action_masks(self) -> Tensor | None:
        masks = self.vector_env.action_masks
        return None if masks is None else self._tensor(masks)

    @override
    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Tree:
        if options:
            raise InvalidInputError(
                f"Environments that step on the host take no options at a reset, got {sorted(options)}. Set them where "
                "the environments are made, or with their set_attribute."
            )
        return self._tensors(self.vector_env.reset(seed))

    @override
    def step(self, actions: Tree) -> TensorStep:
        self._check_actions(actions)
        self.vector_env.send(_array(actions) if type(actions) is Tensor else map_tree(_array, actions))
        step = self.vector_env.recv()
        truncated, final = step.truncated, None
        if step.final:
            truncated = truncated > step.terminated
            final = self._tensors(_followers(step))
        return TensorStep(
            observations=self._tensors(step.observations),
            rewards=self._tensor(step.rewards),
            terminated=self._tensor(step.terminated),
            truncated=self._tensor(truncated),
            final=final,
            episodes=step.episodes,
        )

    @override
    def state_dict(self) -> dict[str, Any]:
        state = self.vector_env.get_state()
        return {"level": int(state.level), "rows": list(state.rows)}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> Tree:
        rows = EnvironmentState(level=StateLevel(state["level"]), rows=tuple(state["rows"]))
        return self._tensors(self.vector_env.set_state(rows))

    @override
    def with_n_envs(self, n_envs: int) -> TensorEnv:
        """Not possible here.

        Raises:
            InvalidInputError: Always.
        """
        raise InvalidInputError(
            f"{n_envs} rows were asked for, but the environments already run side by side, {self.n_envs} of them. Open "
            "them anew with open_environments(..., n_envs=...)."
        )

    @override
    def close(self) -> None:
        self.vector_env.close()

    def _tensors(self, arrays: Tree) -> Tree:
        return self._tensor(arrays) if type(arrays) is np.ndarray else map_tree(self._tensor, arrays)

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        """An array on the device; where it is there already, the memory is shared: it is ours to keep."""
        if not array.flags.writeable:
            array = array.copy()
        tensor = torch.from_numpy(array)
        if tensor.dtype is torch.float64:
            tensor = tensor.to(torch.float32)
        return tensor if self._is_on_host else tensor.to(self.device)


def _array(actions: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = actions.detach().cpu().numpy()
    return array


def _followers(step: VectorStep) -> Tree:
    """What really followed in every row: its true last observation where an episode ended. `[B, ...]`"""
    followers = map_tree(np.copy, step.observations)
    for row, final in step.final.items():
        _write(followers, row, final)
    return followers


def _write(batch: Tree, row: int, observation: Tree) -> None:
    """Put one observation into its row, part by part."""
    if isinstance(batch, np.ndarray):
        batch[row] = observation
        return
    for key in batch if isinstance(batch, dict) else range(len(batch)):
        _write(batch[key], row, observation[key])
