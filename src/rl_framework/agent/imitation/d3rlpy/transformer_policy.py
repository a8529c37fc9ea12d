"""What d3rlpy's transformers learned, as a `Policy` whose memory is the latest stretch of the episode."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

from rl_framework.agent.imitation.d3rlpy.translation import Array, Translation
from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.trees import Tree, map_tree

Window = dict[str, Array]


class TransformerPolicy:
    """Acts for a decision transformer, many episodes side by side.

    A decision transformer chooses the action that led, in the recordings, to the return that it is told to aim at.
    The paper lowers that return by each reward on the way: evaluation and recordings pass them on by `with_rewards`.
    Whoever calls `act` without it aims at the whole target at every step.

    Source: Chen et al. 2021, "Decision Transformer: Reinforcement Learning via Sequence Modeling", algorithm 1.

    Attributes:
        observation_space: Space of the environment's observations.
        action_space: Space of the environment's actions.
        target_return: Return to aim at, undiscounted, in the environment's own units.
        is_recurrent: It has memory.
    """

    is_recurrent = True

    def __init__(self, algorithm: Any, translation: Translation, target_return: float) -> None:
        self.observation_space: gym.Space[Any] = translation.observation_space
        self.action_space: gym.Space[Any] = translation.action_space
        self.target_return = target_return
        self._algorithm = algorithm
        self._translation = translation

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,
        action_masks: BoolArray | None = None,  # noqa: ARG002  # d3rlpy learns and acts without masks
        deterministic: bool = False,
    ) -> PolicyOutput:
        """Choose one action per observation; see `rl_framework.core.policy.Policy.act`.

        Real vectors are always the network's own output. Numbered actions are drawn by their probabilities unless
        asked for deterministically.
        """
        inputs = self._translation.observations(np.asarray(observations))
        window = self._empty(len(inputs)) if state is None else state
        if episode_starts is not None and state is not None:
            window = _cleared(window, self._empty(len(inputs)), episode_starts)
        window = self._advanced(window, inputs)
        with torch.no_grad():
            chosen = self._choose(self._outputs(window), deterministic)
        window["actions"][:, -1] = chosen.reshape(len(inputs), -1)
        return PolicyOutput(self._translation.actions(chosen), window)

    def with_rewards(self, state: Tree, rewards: npt.NDArray[np.floating[Any]]) -> Tree:
        """The memory after rewards were received for the latest actions: what is left to aim at is so much less.

        Args:
            state: What `act` gave.
            rewards: In the environment's own units. `[B]`
        """
        return {**state, "return_left": state["return_left"] - np.asarray(rewards, dtype=np.float64)}

    def _empty(self, rows: int) -> Window:
        """A window before the first step; step numbers count from 1, so 0 marks what is not there."""
        length, translation = self._algorithm.config.context_size, self._translation
        discrete = translation.is_discrete
        return {
            "observations": np.zeros(
                (rows, length, *translation.observation_shape), dtype=translation.observation_space.dtype
            ),
            "actions": np.zeros(
                (rows, length, 1 if discrete else translation.action_size), dtype=np.int64 if discrete else np.float32
            ),
            "returns_to_go": np.zeros((rows, length)),
            "timesteps": np.zeros((rows, length), dtype=np.int64),
            "return_left": np.full(rows, self.target_return, dtype=np.float64),
        }

    def _advanced(self, window: Window, inputs: Array) -> Window:
        """The window one step on, its latest action still open."""
        last = self._algorithm.config.max_timestep
        return {
            "observations": _pushed(window["observations"], inputs),
            "actions": _pushed(window["actions"], np.zeros_like(window["actions"][:, 0])),
            "returns_to_go": _pushed(window["returns_to_go"], window["return_left"]),
            "timesteps": _pushed(window["timesteps"], np.minimum(window["timesteps"][:, -1] + 1, last)),
            "return_left": window["return_left"],
        }

    def _outputs(self, window: Window) -> torch.Tensor:
        """What the network says of the latest step: an action in d3rlpy's units, or logits. `[B, n]`"""
        algorithm = self._algorithm
        observations, actions, returns, timesteps = (
            torch.as_tensor(window[name], device=algorithm.impl.device)
            for name in ("observations", "actions", "returns_to_go", "timesteps")
        )
        observations, actions, returns = observations.float(), actions.float(), returns.float().unsqueeze(-1)
        if algorithm.observation_scaler is not None:
            observations = algorithm.observation_scaler.transform(observations)
        if algorithm.action_scaler is not None:
            actions = algorithm.action_scaler.transform(actions)
        if algorithm.reward_scaler is not None:
            returns = algorithm.reward_scaler.transform(returns)
        modules = algorithm.impl.modules
        modules.set_eval()
        output = modules.transformer(observations, actions, returns, timesteps, (timesteps == 0).float())
        latest: torch.Tensor = (output[1] if self._translation.is_discrete else output)[:, -1]
        return latest

    def _choose(self, outputs: torch.Tensor, deterministic: bool) -> Array:
        if self._translation.is_discrete:
            best = outputs.argmax(dim=1, keepdim=True)
            chosen = best if deterministic else torch.multinomial(outputs.softmax(dim=1), 1)
            return chosen.squeeze(1).cpu().numpy()
        scaler = self._algorithm.action_scaler
        actions: Array = (outputs if scaler is None else scaler.reverse_transform(outputs)).cpu().numpy()
        return actions


def _pushed(column: Array, latest: Array) -> Array:
    """A window's column without its oldest entry and with a new one. `[B, length, ...]`"""
    return np.concatenate([column[:, 1:], latest[:, None]], axis=1, dtype=column.dtype)


def _cleared(window: Window, empty: Window, starts: BoolArray) -> Window:
    def clear(column: Array, fresh: Array) -> Array:
        return np.where(starts.reshape(-1, *[1] * (column.ndim - 1)), fresh, column)

    cleared: Window = map_tree(clear, window, empty)
    return cleared
