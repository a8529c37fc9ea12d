"""Small environments with goals that differ in how they compute rewards and say success."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

RADIUS = 0.3
Info = dict[str, Any]


class PointEnv(gym.Env[Any, Any]):
    """A point on a line of two dimensions that goes where it is told; pays 0 near the goal, -1 elsewhere."""

    def __init__(self, dtype: type[np.floating[Any]] = np.float64) -> None:
        place = spaces.Box(-np.inf, np.inf, (2,), dtype)
        self.observation_space = spaces.Dict({"observation": place, "achieved_goal": place, "desired_goal": place})
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.place = np.zeros(2, dtype)
        self.goal = np.zeros(2, dtype)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        super().reset(seed=seed)
        self.place = np.zeros_like(self.place)
        self.goal = self.np_random.uniform(-1, 1, 2).astype(self.goal.dtype)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        self.place = self.place + action
        reward = float(self.compute_reward(self.place, self.goal, {}))
        return self._observe(), reward, False, False, {}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > RADIUS).astype(np.float32)

    def _observe(self) -> Info:
        return {"observation": self.place, "achieved_goal": self.place, "desired_goal": self.goal}


class ThresholdEnv(PointEnv):
    """Names the distance, as Fetch does."""

    distance_threshold = RADIUS


class FalseThresholdEnv(PointEnv):
    """Names a distance that is not the one it goes by."""

    distance_threshold = RADIUS + 0.05


class DenseEnv(PointEnv):
    """Names a distance, but pays by the distance itself."""

    distance_threshold = RADIUS

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)


class CoordinatesEnv(PointEnv):
    """Names a distance for each coordinate."""

    distance_threshold = np.array([RADIUS, 2 * RADIUS])

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        return -(np.abs(achieved_goal - desired_goal) > self.distance_threshold).any(-1).astype(np.float32)


class ForbiddenEnv(ThresholdEnv):
    """Pays for no goal beyond a border, which lies far away from the origin but in the midst of its space."""

    def __init__(self) -> None:
        super().__init__(np.float32)
        place = spaces.Box(90.0, 110.0, (2,), np.float32)
        self.observation_space = spaces.Dict({"observation": place, "achieved_goal": place, "desired_goal": place})

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        return np.where(achieved_goal[..., 0] > 100.0, -1.0, super().compute_reward(achieved_goal, desired_goal, info))


class SingleEnv(PointEnv):
    """Cannot compute many rewards at once."""

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> float:
        return 0.0 if float(np.hypot(*(achieved_goal - desired_goal))) <= RADIUS else -1.0


class MuddledEnv(PointEnv):
    """Computes something for many at once, but not what it would compute for each."""

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        far = np.linalg.norm(achieved_goal - desired_goal) > RADIUS
        return -np.full(achieved_goal.shape[:-1], far, np.float32)


class BrokenEnv(PointEnv):
    """Cannot compute rewards without its own remarks."""

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> float:
        return float(info["distance"])


class SilentEnv(PointEnv):
    """Has no `compute_reward` that anybody could call."""

    compute_reward = property()  # An attribute that is not there.

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        return self._observe(), 0.0, False, False, {}


class PaysOneEnv(PointEnv):
    """Pays 1 near the goal and 0 elsewhere, and says `success`, as the mazes of Gymnasium-Robotics do."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        observation, reward, *ends, info = super().step(action)
        return observation, reward, ends[0], ends[1], {**info, "success": reward == 1.0}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        return super().compute_reward(achieved_goal, desired_goal, info) + 1.0
