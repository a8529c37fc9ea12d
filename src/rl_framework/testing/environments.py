"""Small environments whose every number is known in advance, and environments that misbehave on purpose.

They need nothing but NumPy and Gymnasium.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_framework.core.trees import Tree

Info = dict[str, Any]
FloatArray = npt.NDArray[np.float32]
Ending = Literal["terminated", "truncated", "both"]


class CountingEnv(gym.Env[FloatArray, np.int64]):
    """Counts: the observation is (episode, step, a number drawn from the environment's generator).

    The reward of the k-th step of an episode is k; the action is kept in `last_action`. The info of the last step
    says `is_success` for the episodes with an even number.

    Args:
        lengths: Episode lengths in steps, one after the other, then from the start again.
        ends: How an episode ends after its length.
        render_mode: None or `"rgb_array"`: a picture that gets brighter step by step.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  Gymnasium's own convention.

    def __init__(
        self, lengths: Sequence[int] = (5,), ends: Ending = "terminated", render_mode: str | None = None
    ) -> None:
        self.observation_space = spaces.Box(0.0, np.inf, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.render_mode = render_mode
        self.lengths = tuple(lengths)
        self.ends = ends
        self.episode = -1
        self.step_count = 0
        self.last_action: int | None = None

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[FloatArray, Info]:
        """Open the next episode."""
        super().reset(seed=seed)
        self.episode += 1
        self.step_count = 0
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, Info]:
        """Count one step."""
        self.step_count += 1
        self.last_action = int(action)
        over = self.step_count >= self.lengths[self.episode % len(self.lengths)]
        info = {"is_success": self.episode % 2 == 0} if over else {}
        terminated, truncated = over and self.ends != "truncated", over and self.ends != "terminated"
        return self._observe(), float(self.step_count), terminated, truncated, info

    def render(self) -> Any:
        """A grey picture, one shade brighter with each step. `[32, 48, 3]`"""
        if self.render_mode is None:
            return None
        return np.full((32, 48, 3), min(255, 8 * self.step_count), dtype=np.uint8)

    def _observe(self) -> FloatArray:
        return np.array([self.episode, self.step_count, self.np_random.random()], dtype=np.float32)


class AnySpaceEnv(gym.Env[Tree, Tree]):
    """Gives random observations of any space and refuses actions that its action space does not contain.

    Args:
        observation_space: Space of the observations.
        action_space: Space of the actions.
        length: Steps until an episode is truncated.
    """

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any], length: int = 5) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.length = length
        self.step_count = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Tree, Info]:
        """Start again; a seed also determines the observations."""
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.step_count = 0
        return self.observation_space.sample(), {}

    def step(self, action: Tree) -> tuple[Tree, float, bool, bool, Info]:
        """A random observation and a random reward."""
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is not in {self.action_space}")
        self.step_count += 1
        return self.observation_space.sample(), self.np_random.random(), False, self.step_count >= self.length, {}


class BitFlipping(gym.Env[Tree, np.int64]):
    """Flip bits, one per step, until they equal the goal; the reward is 0 there and -1 elsewhere.

    A goal-conditioned task that is hopeless without hindsight for many bits.
    Source: Andrychowicz et al., Hindsight Experience Replay, 2017 (https://arxiv.org/abs/1707.01495).

    Args:
        n_bits: Number of bits, and steps until the episode is truncated.
    """

    def __init__(self, n_bits: int = 8) -> None:
        bits = spaces.MultiBinary(n_bits)
        self.observation_space = spaces.Dict({"observation": bits, "achieved_goal": bits, "desired_goal": bits})
        self.action_space = spaces.Discrete(n_bits)
        self.n_bits = n_bits
        self.bits = np.zeros(n_bits, np.int8)
        self.goal = np.zeros(n_bits, np.int8)
        self.step_count = 0

    def reset(
        self, *, seed: int | None = None, options: Info | None = None
    ) -> tuple[dict[str, npt.NDArray[np.int8]], Info]:
        """Draw bits and a goal."""
        super().reset(seed=seed)
        self.bits, self.goal = self.np_random.integers(0, 2, (2, self.n_bits), dtype=np.int8)
        self.step_count = 0
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[dict[str, npt.NDArray[np.int8]], float, bool, bool, Info]:
        """Flip one bit."""
        self.bits[action] ^= 1
        self.step_count += 1
        reward = float(self.compute_reward(self.bits, self.goal, {}))
        solved = reward == 0.0
        return self._observe(), reward, solved, self.step_count >= self.n_bits, {"is_success": solved}

    def compute_reward(self, achieved_goal: npt.NDArray[Any], desired_goal: npt.NDArray[Any], info: Any) -> Any:
        """Rewards of one or many pairs of goals, `[..., n_bits]` each. `[...]`"""
        return np.all(np.equal(achieved_goal, desired_goal), axis=-1).astype(np.float32) - 1.0

    def _observe(self) -> dict[str, npt.NDArray[np.int8]]:
        return {"observation": self.bits.copy(), "achieved_goal": self.bits.copy(), "desired_goal": self.goal.copy()}


class MaskedCorridor(gym.Env[FloatArray, np.int64]):
    """A corridor whose walls are masked: stepping into one raises. The reward is 1 at its right end.

    Actions: 0 to the left, 1 to the right, 2 is forbidden everywhere.

    Args:
        length: Number of cells.
        mask_in_info: Give the mask as `info["action_mask"]`, too.
    """

    def __init__(self, length: int = 6, mask_in_info: bool = False) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.length = length
        self.mask_in_info = mask_in_info
        self.position = 0
        self.step_count = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[FloatArray, Info]:
        """Start in a random cell of the left half."""
        super().reset(seed=seed)
        self.position = int(self.np_random.integers(0, self.length // 2))
        self.step_count = 0
        return self._observe(), self._info()

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, Info]:
        """Move by one cell.

        Raises:
            ValueError: The action is masked.
        """
        if not self.action_masks()[action]:
            raise ValueError(f"Action {action} is forbidden in cell {self.position}.")
        self.position += 1 if action == 1 else -1
        self.step_count += 1
        arrived = self.position == self.length - 1
        info = {**self._info(), "is_success": arrived}
        return self._observe(), float(arrived), arrived, self.step_count >= 4 * self.length, info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """True where an action is allowed. `[3]`"""
        return np.array([self.position > 0, self.position < self.length - 1, False])

    def _observe(self) -> FloatArray:
        return np.array([self.position / (self.length - 1)], dtype=np.float32)

    def _info(self) -> Info:
        return {"action_mask": self.action_masks().astype(np.int8)} if self.mask_in_info else {}


class RecallEnv(gym.Env[FloatArray, np.int64]):
    """Shows a cue in the first observation and rewards its recall in the last step: memory is needed.

    The observation is (cue as -1 or 1 in the first step, else 0; 1 when the answer is due, else 0).

    Args:
        delay: Steps between the cue and the answer.
    """

    def __init__(self, delay: int = 4) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.delay = delay
        self.cue = 0
        self.step_count = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[FloatArray, Info]:
        """Draw and show a cue."""
        super().reset(seed=seed)
        self.cue = int(self.np_random.integers(0, 2))
        self.step_count = 0
        return np.array([2 * self.cue - 1, 0], dtype=np.float32), {}

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, Info]:
        """Wait, or in the last step name the cue: 1 for the right answer, -1 for the wrong one."""
        self.step_count += 1
        observation = np.array([0, self.step_count == self.delay], dtype=np.float32)
        if self.step_count <= self.delay:
            return observation, 0.0, False, False, {}
        right = int(action) == self.cue
        return observation, 1.0 if right else -1.0, True, False, {"is_success": right}


class ImageEnv(gym.Env[npt.NDArray[np.uint8], np.int64]):
    """Shows a bright quarter of a dark picture and rewards naming it.

    Args:
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        length: Steps until an episode is truncated.
        render_mode: None or `"rgb_array"`, which renders the picture that is observed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  Gymnasium's own convention.

    def __init__(self, height: int = 36, width: int = 40, length: int = 10, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Box(0, 255, (height, width, 3), np.uint8)
        self.action_space = spaces.Discrete(4)
        self.render_mode = render_mode
        self.height, self.width, self.length = height, width, length
        self.quarter = 0
        self.step_count = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[npt.NDArray[np.uint8], Info]:
        """Brighten a random quarter."""
        super().reset(seed=seed)
        self.step_count = 0
        self.quarter = int(self.np_random.integers(0, 4))
        return self._picture(), {}

    def step(self, action: np.int64) -> tuple[npt.NDArray[np.uint8], float, bool, bool, Info]:
        """1 for the bright quarter, 0 for another; then another quarter may be bright."""
        reward = float(int(action) == self.quarter)
        self.quarter = int(self.np_random.integers(0, 4))
        self.step_count += 1
        return self._picture(), reward, False, self.step_count >= self.length, {}

    def render(self) -> Any:
        """The picture that is observed. `[height, width, 3]`"""
        return self._picture() if self.render_mode == "rgb_array" else None

    def _picture(self) -> npt.NDArray[np.uint8]:
        picture = np.zeros((self.height, self.width, 3), np.uint8)
        half_height, half_width = self.height // 2, self.width // 2
        top, left = half_height * (self.quarter // 2), half_width * (self.quarter % 2)
        picture[top : top + half_height, left : left + half_width] = 255
        return picture


class FaultyEnv(CountingEnv):
    """Base of the environments that misbehave: `after` good steps in its life, then `fail` in every step.

    Args:
        after: Number of steps that go well; -1 to misbehave in `reset` already.
        lengths: Episode lengths, as for `CountingEnv`.
    """

    def __init__(self, after: int = 3, lengths: Sequence[int] = (5,)) -> None:
        super().__init__(lengths)
        self.after = after
        self.steps_in_life = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[FloatArray, Info]:
        """Open the next episode, unless it is to fail here."""
        if self.after < 0:
            self.fail()
        return super().reset(seed=seed, options=options)

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, Info]:
        """Count one step, unless it is time to fail."""
        self.steps_in_life += 1
        if self.steps_in_life > self.after:
            self.fail()
        return super().step(action)

    def fail(self) -> None:
        """Misbehave."""
        raise NotImplementedError


class RaisingEnv(FaultyEnv):
    """Raises a `ZeroDivisionError` after a number of good steps."""

    def fail(self) -> None:
        """Raise."""
        raise ZeroDivisionError("deliberate failure of RaisingEnv")


class HangingEnv(FaultyEnv):
    """Sleeps for a very long time after a number of good steps."""

    def fail(self) -> None:
        """Sleep for an hour."""
        time.sleep(3600)


class DyingEnv(FaultyEnv):
    """Ends its own process, without any farewell, after a number of good steps. For worker processes only.

    Args:
        after: Number of steps that go well.
        exit_code: Exit code of the process.
    """

    def __init__(self, after: int = 3, exit_code: int = 7) -> None:
        super().__init__(after)
        self.exit_code = exit_code

    def fail(self) -> None:
        """Exit at once."""
        os._exit(self.exit_code)


class InvalidNumberEnv(FaultyEnv):
    """Gives a NaN or an infinite number after a number of good steps.

    Args:
        after: Number of steps that go well; -1 for a bad first observation (`where="observation"` only).
        where: Which value is spoilt.
        value: What is put there.
    """

    def __init__(
        self, after: int = 3, where: Literal["reward", "observation"] = "reward", value: float = float("nan")
    ) -> None:
        super().__init__(after)
        self.where = where
        self.value = value

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[FloatArray, Info]:
        """Open the next episode."""
        observation, info = CountingEnv.reset(self, seed=seed, options=options)
        if self.after < 0:
            observation[2] = self.value
        return observation, info

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, Info]:
        """Count one step, with a bad number when it is time."""
        self.steps_in_life += 1
        observation, reward, terminated, truncated, info = CountingEnv.step(self, action)
        if self.steps_in_life > self.after:
            if self.where == "reward":
                reward = self.value
            else:
                observation[2] = self.value
        return observation, reward, terminated, truncated, info


class SlowEnv(CountingEnv):
    """Takes its time.

    Args:
        seconds: Duration of a step.
        lengths: Episode lengths, as for `CountingEnv`.
    """

    def __init__(self, seconds: float = 0.005, lengths: Sequence[int] = (5,)) -> None:
        super().__init__(lengths)
        self.seconds = seconds

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, Info]:
        """Sleep, then count one step."""
        time.sleep(self.seconds)
        return super().step(action)
