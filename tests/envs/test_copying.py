"""Copies of environments that were used before."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from rl_framework.envs.copying import copy_environment, is_copyable


def test_a_rendered_environment_is_copied_like_one_that_was_not() -> None:
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    env.render()
    assert is_copyable(env)
    copied = copy_environment(env)
    copied.reset(seed=3)
    env.reset(seed=3)
    assert np.array_equal(copied.step(1)[0], env.step(1)[0])
    assert np.array_equal(np.asarray(copied.render()), np.asarray(env.render()))
    for each in (env, copied):
        each.close()


def test_attributes_set_afterwards_are_copied() -> None:
    env = gym.make("CartPole-v1")
    env.unwrapped.gravity = 1.5  # type: ignore[attr-defined]  # CartPole's
    assert copy_environment(env).unwrapped.gravity == 1.5  # type: ignore[attr-defined]  # as above


def test_environments_that_copy_themselves_incompletely_are_not_copied() -> None:
    assert not is_copyable(gym.make("Pusher-v5"))
