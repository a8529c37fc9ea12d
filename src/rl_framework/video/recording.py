"""Records a policy at work: every picture of every episode, the last one included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.core.policy import Policy
from rl_framework.core.seeding import derive_seeds, fresh_seed, isolated_randomness, isolated_sampling
from rl_framework.core.spaces import check_equal
from rl_framework.core.trees import Tree
from rl_framework.envs.source import environment_source
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import InvalidInputError, VideoError
from rl_framework.video.encoding import VideoWriter, check_video_path, ffmpeg_program

PICTURES = "rgb_array"
ADVICE = (
    'Make the environment with pictures: gym.make(..., render_mode="rgb_array"), or the same option of a PettingZoo '
    "game. A Unity game shows itself in its own window alone."
)


def record_video(
    policy: Policy,
    environments: Any,
    path: Path | str,
    n_episodes: int = 1,
    *,
    deterministic: bool = True,
    seed: int | None = None,
    fps: float | None = None,
    max_steps: int | None = None,
) -> Path:
    """Play episodes in one environment and write what it shows to a file.

    An episode of T steps gives T + 1 pictures. An environment that was made without pictures is made anew with
    them from its spec, where it has one. Of a foreign vector environment, the first row is shown, without the last
    picture of its episodes: they are over before it can be taken.

    Args:
        policy: What acts.
        environments: Anything that can be trained on. What the caller opened stays open.
        path: Where the video goes, ending in `.mp4` or `.gif`.
        n_episodes: Number of episodes, one after the other.
        deterministic: The policy's most probable actions instead of sampled ones.
        seed: Seed of episodes and policy; drawn from the operating system if None.
        fps: Frames per second; those at which the environment is meant to be watched if None.
        max_steps: Steps after which the video ends, over all episodes; None for whole episodes only.

    Returns:
        The absolute path of the video.

    Raises:
        InvalidInputError: An impossible path, number or fps.
        SpaceError: The environment does not have the policy's spaces.
        EnvironmentFailure: The environment raised, or gave an invalid number.
        VideoError: The environment gives no pictures, or they could not be encoded.
        MissingExtraError: imageio-ffmpeg is not installed.
    """
    _check_numbers(n_episodes, max_steps, seed)
    check_video_path(path)
    ffmpeg_program()
    seed = fresh_seed() if seed is None else seed
    with (
        isolated_randomness(seed),
        isolated_sampling(policy.action_space, seed),
        closing(_open_with_pictures(environments)) as env,
    ):
        _check_spaces(policy, env)
        with VideoWriter(path, env.spec.render_fps if fps is None else fps) as video:
            for picture in _pictures(policy, env, derive_seeds(seed, n_episodes), deterministic, max_steps):
                video.write(picture)
    return video.path


def _check_numbers(n_episodes: int, max_steps: int | None, seed: int | None) -> None:
    for name, number, least in (("n_episodes", n_episodes, 1), ("max_steps", max_steps, 1), ("seed", seed, 0)):
        if number is not None and number < least:
            raise InvalidInputError(f"Expected {name} of at least {least}, got {number}.")


def _open_with_pictures(environments: Any) -> VectorEnv:
    """Environments that give pictures, made anew with them if need be; only the first row will play."""
    env = _open_few(environments)
    if env.get_attribute("render_mode", [0])[0] == PICTURES:
        return env
    with closing(env):
        spec = env.get_attribute("spec", [0])[0]
    if spec is None:
        raise VideoError(f"The environment gives no pictures and cannot be made anew with them. {ADVICE}")
    return _open_anew(spec)


def _open_few(environments: Any) -> VectorEnv:
    """One row where there can be one, else as many as run side by side already."""
    source = environment_source(environments)
    return source.open(1 if source.count > 1 and source.copyable else None)


def _open_anew(spec: gym.envs.registration.EnvSpec) -> VectorEnv:
    try:
        return _open_few(partial(gym.make, spec, render_mode=PICTURES))
    except Exception as error:
        raise VideoError(
            f"The environment {spec.id!r} gives no pictures, and making it anew with them failed: "
            f"{type(error).__name__}: {error}. {ADVICE}"
        ) from error


def _check_spaces(policy: Policy, env: VectorEnv) -> None:
    who = "the environment to record"
    check_equal(policy.observation_space, env.spec.observation_space, role="observation", who=who)
    check_equal(policy.action_space, env.spec.action_space, role="action", who=who)


def _pictures(
    policy: Policy, env: VectorEnv, seeds: list[int], deterministic: bool, max_steps: int | None
) -> Iterator[Any]:
    """The pictures of the episodes of the first row, one after the other."""
    left = max_steps
    for seed in seeds:
        steps = -1
        for picture in islice(_episode(policy, env, seed, deterministic), None if left is None else left + 1):
            yield picture
            steps += 1
        if left is not None:
            left -= steps
            if left < 1:
                return


def _episode(policy: Policy, env: VectorEnv, seed: int, deterministic: bool) -> Iterator[Any]:
    """The pictures of one episode: before the first step and after each.

    The row rests after its only episode, so that its last picture can still be taken.
    """
    rests = env.spec.seeds_episodes
    observations = env.reset_to_schedule([[seed], *[()] * (env.spec.n_envs - 1)]) if rests else env.reset(seed)
    yield _picture(env)
    state: Tree = None
    starts = np.ones(env.spec.n_envs, dtype=np.bool_)
    while True:
        output = policy.act(
            observations,
            state,
            episode_starts=starts,
            action_masks=env.action_masks,
            deterministic=deterministic,
        )
        env.send(output.actions)
        step = env.recv()
        observations, state, starts = step.observations, output.state, step.terminated | step.truncated
        if rests or not starts[0]:
            yield _picture(env)
        if starts[0]:
            return


def _picture(env: VectorEnv) -> Any:
    picture = env.render(0)
    if picture is None:
        raise VideoError(f"The environment gave no picture. {ADVICE}")
    return picture
