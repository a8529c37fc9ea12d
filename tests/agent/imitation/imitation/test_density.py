"""Density estimation: its rewards are the library's own numbers, and higher for what the expert does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from imitation.algorithms.density import DensityAlgorithm, DensityType
from imitation.util.logger import HierarchicalLogger

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.imitation.imitation.demonstrations import Preparation, as_trajectories
from rl_framework.agent.imitation.imitation.density import DensityLearner
from rl_framework.agent.imitation.imitation.density_model import DENSITY_TYPES, DensityModel, flatten_batch
from rl_framework.agent.imitation.imitation.environment_socket import SocketVecEnv
from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.core.reports import Report
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError
from rl_framework.testing.agent_contract import AgentCase, AgentContract, ImitationCase
from tests.agent.imitation.imitation.cases import REPLAY, ROLLOUT, imitating
from tests.agent.imitation.imitation.scripted import (
    balance,
    balanced_poles,
    cart_pole,
    pendulum,
    play,
    several,
    swung_pendulums,
)


def short_pendulum() -> gym.Env[Any, Any]:
    return gym.make("Pendulum-v1", max_episode_steps=60)


CASES = [
    ImitationCase(
        name="density-states-PPO",
        make_agent=imitating("density", {"density_type": "state"}, generator_parameters=ROLLOUT),
        make_environments=several(cart_pole),
        make_episodes=balanced_poles,
    ),
    ImitationCase(
        name="density-state-action-SAC",
        make_agent=imitating(
            "density",
            {"kernel": "exponential", "kernel_bandwidth": 1.0},
            generator_class="SAC",
            generator_parameters=REPLAY,
        ),
        make_environments=several(pendulum),
        make_episodes=swung_pendulums,
        total_timesteps=80,
    ),
    ImitationCase(
        name="density-successive-states-by-step-normalized",
        make_agent=imitating(
            "density",
            {"density_type": DensityType.STATE_STATE_DENSITY, "is_stationary": False},
            generator_parameters=ROLLOUT,
            normalization=True,
        ),
        make_environments=several(short_pendulum),
        make_episodes=swung_pendulums,
    ),
]


class TestContract(AgentContract):
    @pytest.fixture(scope="class", params=CASES, ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> AgentCase:
        case: AgentCase = request.param
        return case


def fitted(episodes: EpisodeSequence, **parameters: Any) -> DensityModel:
    observation_space, action_space = _spaces(episodes)
    socket = SocketVecEnv(2, observation_space, action_space)
    model = DensityModel(socket, **parameters)
    model.fit(episodes, Preparation(socket.translation, action_space))
    return model


def _spaces(episodes: EpisodeSequence) -> tuple[Any, Any]:
    return episodes.observation_space, episodes.action_space


def rewards_of(model: DensityModel, episode: Episode) -> Any:
    steps = np.arange(len(episode))
    observations = episode.observations
    return model(observations[:-1], episode.actions, observations[1:], np.zeros(len(episode), dtype=np.bool_), steps)


@pytest.mark.parametrize("density_type", list(DENSITY_TYPES))
@pytest.mark.parametrize("is_stationary", [True, False], ids=["stationary", "by-step"])
@pytest.mark.parametrize("name", ["CartPole", "Pendulum"])
def test_rewards_are_the_library_s(density_type: str, is_stationary: bool, name: str) -> None:
    episodes = balanced_poles() if name == "CartPole" else swung_pendulums()
    ours = fitted(episodes, density_type=density_type, is_stationary=is_stationary, kernel_bandwidth=0.7)
    observation_space, action_space = _spaces(episodes)
    socket = SocketVecEnv(2, observation_space, action_space)
    theirs = DensityAlgorithm(
        demonstrations=as_trajectories(episodes, Preparation(socket.translation, action_space)),
        venv=socket,
        rng=np.random.default_rng(0),
        density_type=DENSITY_TYPES[density_type],
        kernel_bandwidth=0.7,
        is_stationary=is_stationary,
        custom_logger=_silent(),
    )
    theirs.train()
    episode = episodes[0]
    args = (
        episode.observations[:-1],
        episode.actions,
        episode.observations[1:],
        np.zeros(len(episode), dtype=np.bool_),
    )
    expected = theirs(*args, np.arange(len(episode)))
    assert rewards_of(ours, episode) == pytest.approx(expected, rel=1e-5)


def _silent() -> HierarchicalLogger:
    return RunLogger()


@pytest.mark.parametrize("density_type", list(DENSITY_TYPES))
def test_the_expert_earns_more_than_chance(density_type: str) -> None:
    model = fitted(balanced_poles(), density_type=density_type)
    expert, chance = play(cart_pole, balance, 3, seed=100), play(cart_pole, None, 3, seed=100)
    mean = {name: np.mean(np.concatenate([rewards_of(model, one) for one in some])) for name, some in
            {"expert": expert, "chance": chance}.items()}  # fmt: skip
    assert mean["expert"] > mean["chance"] + 1.0


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Box(-1, 1, (2, 3)),
        spaces.Box(0, 255, (2,), np.uint8),
        spaces.Dict({"camera": spaces.Box(0, 255, (2, 2), np.uint8), "gear": spaces.Discrete(3)}),
    ],
    ids=["Discrete", "MultiDiscrete", "MultiBinary", "Box", "bytes", "Dict"],
)
def test_flattens_as_gymnasium_does(space: spaces.Space[Any]) -> None:
    space.seed(0)
    samples = [space.sample() for _ in range(5)]
    batch = (
        {name: np.stack([one[name] for one in samples]) for name in space.spaces}
        if isinstance(space, spaces.Dict)
        else np.stack(samples)
    )
    expected = np.stack([np.asarray(spaces.flatten(space, one)) for one in samples])
    flat = flatten_batch(space, batch)
    assert flat.dtype == expected.dtype
    assert np.array_equal(flat, expected)


class TwoViews(gym.ObservationWrapper[Any, Any, Any]):
    """CartPole's observation in two entries."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        whole: Any = env.observation_space
        parts = {"cart": slice(0, 2), "pole": slice(2, 4)}
        self.observation_space = spaces.Dict(
            {name: spaces.Box(whole.low[part], whole.high[part]) for name, part in parts.items()}
        )

    def observation(self, observation: Any) -> Any:
        return {"cart": observation[:2], "pole": observation[2:]}


def test_takes_dict_observations() -> None:
    def make() -> gym.Env[Any, Any]:
        return TwoViews(cart_pole())

    def rule(observation: Any) -> int:
        return balance(np.concatenate([observation["cart"], observation["pole"]]))

    agent = imitating("density", generator_parameters=ROLLOUT)()
    agent.train(play(make, rule, 3), 128, training_environments=[make(), make()], progress_bar=False)
    plain = fitted(play(cart_pole, balance, 3))
    learner = agent.learner
    assert isinstance(learner, DensityLearner)
    assert learner.reward.transitions[None] == pytest.approx(plain.transitions[None])


def test_number_types_stay_as_they_are() -> None:
    assert fitted(balanced_poles(), density_type="state").transitions[None].dtype == np.float32
    space = spaces.Box(0, 255, (3,), np.uint8)
    pictures = Episode(
        observations=np.arange(15, dtype=np.uint8).reshape(5, 3),
        actions=np.zeros(4, dtype=np.int64),
        rewards=None,
        terminated=True,
    )
    episodes = EpisodeSequence.from_episodes([pictures], observation_space=space, action_space=spaces.Discrete(2))
    assert fitted(episodes, density_type="state_state").transitions[None].dtype == np.uint8


def test_reports_what_the_reward_is_worth() -> None:
    reports: list[Report] = []
    agent = imitating("density", generator_parameters=ROLLOUT)()
    agent.train(
        balanced_poles(),
        256,
        training_environments=several(cart_pole)(),
        callbacks=[reports.append],
        progress_bar=False,
    )
    numbers = {name: value for report in reports for name, value in report.metrics.items()}
    assert numbers["reward/mean_learned_return"] < 0
    assert "train/value_loss" in numbers
    assert sum(len(report.episodes) for report in reports) > 2
    assert all(episode.total_reward == episode.length for report in reports for episode in report.episodes)


def test_goes_on_under_the_same_reward_after_loading(tmp_path: Path) -> None:
    agent = imitating("density", {"is_stationary": False}, generator_parameters=ROLLOUT)()
    agent.train(balanced_poles(), 64, training_environments=several(cart_pole)(), progress_bar=False)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    before, after = agent.learner, loaded.learner  # type: ignore[attr-defined]  # it is such an agent
    assert isinstance(before, DensityLearner)
    assert isinstance(after, DensityLearner)
    episode = balanced_poles()[3]
    assert np.array_equal(rewards_of(before.reward, episode), rewards_of(after.reward, episode))


def test_a_density_by_step_ends_with_the_longest_demonstration() -> None:
    agent = imitating("density", {"is_stationary": False}, generator_parameters=ROLLOUT)()
    with pytest.raises(InvalidInputError, match=r"7 steps of the longest demonstration.*went on to step 8"):
        agent.train(
            balanced_poles().map(lambda one: one[:7]),
            200,
            training_environments=several(cart_pole)(),
            progress_bar=False,
        )


def test_refuses_episodes_of_different_lengths_if_told_to() -> None:
    agent = imitating("density", generator_parameters=ROLLOUT, allow_variable_horizon=False)()
    with pytest.raises(InvalidInputError, match="density met episodes of different lengths"):
        agent.train(balanced_poles(), 400, training_environments=several(cart_pole)(), progress_bar=False)


def test_takes_episodes_of_one_length_if_told_to() -> None:
    agent = imitating("density", generator_parameters=ROLLOUT, allow_variable_horizon=False)()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.train(swung_pendulums(), 256, training_environments=several(short_pendulum)(), progress_bar=False)
    assert agent.learner.state()["horizon"] == 60


def test_a_kernel_that_ends_somewhere_must_reach_what_is_played() -> None:
    near, far = (imitating("density", {"kernel": "tophat", "kernel_bandwidth": width}, generator_parameters=ROLLOUT)()
                 for width in (1e3, 0.1))  # fmt: skip
    near.train(balanced_poles(), 64, training_environments=several(cart_pole)(), progress_bar=False)
    with pytest.raises(InvalidInputError, match=r"kernel 'tophat' with a bandwidth of 0\.1 gives it no density at all"):
        far.train(balanced_poles(), 64, training_environments=several(cart_pole)(), progress_bar=False)


@pytest.mark.parametrize("step", [5, -1], ids=["within", "last"])
@pytest.mark.parametrize("name", ["density", "SQIL", "preference comparisons"])
def test_refuses_demonstrations_with_holes(name: str, step: int) -> None:
    good = balanced_poles()[0]
    observations = good.observations.copy()
    observations[step, 1] = np.nan
    torn = Episode(observations=observations, actions=good.actions, rewards=good.rewards, terminated=False)
    agent = imitating(name)()
    with pytest.raises(InvalidInputError, match=r"(?i)episode 1.*nan"):
        agent.train([good, torn], 64, training_environments=several(cart_pole)(), progress_bar=False)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"density_type": "action"}, "density_type must be one of state, state_action, state_state"),
        ({"kernel": "gausian"}, "kernel must be one of gaussian"),
        ({"kernel_bandwidth": 0.0}, "kernel_bandwidth must be a positive number, got 0.0"),
        ({"kernel_bandwidth": True}, "kernel_bandwidth must be a positive number, got True"),
    ],
    ids=["density_type", "kernel", "no-width", "no-number"],
)
def test_refuses_values(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ImitationAgent("density", parameters)


def test_refuses_unknown_names() -> None:
    with pytest.raises(UnknownOptionError, match="kernel_bandwidth"):
        ImitationAgent("density", {"kernel_bandwith": 0.1})


def test_refuses_a_generator_in_the_wrong_place() -> None:
    with pytest.raises(InvalidInputError, match="'rl_algo' of density is set here"):
        ImitationAgent("density", {"rl_algo": None})


def test_refuses_spaces_that_are_no_vectors() -> None:
    socket = SocketVecEnv(1, spaces.Box(0, 1, (1,)), spaces.Discrete(2))
    socket.observation_space = spaces.Text(3)
    with pytest.raises(SpaceError, match=r"observations of Text.* cannot be laid out"):
        DensityModel(socket)
