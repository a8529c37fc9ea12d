"""SQIL: which half of a batch is whose, in which units, and what it refuses."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import DQN

from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.imitation.imitation.expert_replay import DemonstratedReplayBuffer, ExpertTransitions
from rl_framework.agent.imitation.imitation.sqil import SQILLearner
from rl_framework.agent.imitation_learning_agent import Lessons
from rl_framework.agent.reinforcement.stable_baselines.normalization import Normalization
from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.core.reports import Report
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.testing.agent_contract import AgentCase, AgentContract, ImitationCase
from tests.agent.imitation.imitation.cases import REPLAY, imitating
from tests.agent.imitation.imitation.scripted import (
    balanced_poles,
    cart_pole,
    pendulum,
    play,
    several,
    swing,
    swung_pendulums,
)
from tests.agent.imitation.imitation.test_density import TwoViews

CASES = [
    ImitationCase(
        name="SQIL-DQN",
        make_agent=imitating("SQIL", generator_parameters=REPLAY),
        make_environments=several(cart_pole),
        make_episodes=balanced_poles,
    ),
    ImitationCase(
        name="SQIL-SAC-normalized",
        make_agent=imitating("SQIL", generator_class="SAC", generator_parameters=REPLAY, normalization=True),
        make_environments=several(pendulum),
        make_episodes=swung_pendulums,
        total_timesteps=80,
    ),
    ImitationCase(
        name="SQIL-QRDQN-sparing-memory",
        make_agent=imitating(
            "SQIL", generator_class="QRDQN", generator_parameters={**REPLAY, "optimize_memory_usage": True}
        ),
        make_environments=several(cart_pole, 1),
        make_episodes=balanced_poles,
    ),
]


class TestContract(AgentContract):
    @pytest.fixture(scope="class", params=CASES, ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> AgentCase:
        case: AgentCase = request.param
        return case


class Watch(Callback):
    """Looks at the replay while there is one."""

    def __init__(self, agent: ImitationAgent, batch_size: int = 10) -> None:
        self.agent = agent
        self.batch_size = batch_size
        self.samples: list[Any] = []

    def on_report(self, run: RunHandle, report: Report) -> None:
        buffer = replay_of(self.agent)
        if buffer.pos:
            self.samples.append(buffer.sample(self.batch_size, self.model.get_vec_normalize_env()))

    @property
    def model(self) -> Any:
        learner = self.agent.learner
        assert isinstance(learner, SQILLearner)
        return learner.model


def replay_of(agent: ImitationAgent) -> DemonstratedReplayBuffer:
    learner = agent.learner
    assert isinstance(learner, SQILLearner)
    buffer: DemonstratedReplayBuffer = learner.model.replay_buffer  # type: ignore[attr-defined]  # it has one
    return buffer


def trained(make: Any, episodes: EpisodeSequence, n_steps: int = 100, **options: Any) -> Watch:
    agent = imitating("SQIL", **options)()
    watch = Watch(agent)
    agent.train(episodes, n_steps, training_environments=several(make)(), callbacks=[watch], progress_bar=False)
    return watch


def test_half_of_every_batch_is_the_expert_s() -> None:
    watch = trained(cart_pole, balanced_poles(), generator_parameters=REPLAY)
    assert watch.samples
    seen = np.concatenate([one.observations for one in balanced_poles()])
    for samples in watch.samples:
        assert samples.rewards.flatten().tolist() == [0.0] * 5 + [1.0] * 5
        assert samples.discounts is None
        for observation in samples.observations[5:].numpy():
            assert np.any(np.all(seen == observation, axis=1))
        for observation in samples.observations[:5].numpy():
            assert not np.any(np.all(seen == observation, axis=1))


def test_the_expert_s_transitions_belong_together() -> None:
    watch = trained(cart_pole, balanced_poles(), generator_parameters=REPLAY)
    following = {
        one.observations[step].tobytes(): (one.observations[step + 1].tobytes(), int(one.actions[step]))
        for one in balanced_poles()
        for step in range(len(one))
    }
    samples = watch.samples[-1]
    columns = zip(samples.observations[5:], samples.next_observations[5:], samples.actions[5:], strict=True)
    for before, after, action in columns:
        assert following[before.numpy().tobytes()] == (after.numpy().tobytes(), int(action))


def test_the_expert_s_actions_are_scaled_as_the_model_s_are() -> None:
    episodes = play(pendulum, lambda _: np.array([1.5], dtype=np.float32), 2)
    watch = trained(pendulum, episodes, 60, generator_class="SAC", generator_parameters=REPLAY)
    assert watch.samples[-1].actions[5:].flatten().tolist() == [0.75] * 5


def test_normalisation_leaves_rewards_alone() -> None:
    watch = trained(
        pendulum,
        swung_pendulums(),
        60,
        generator_class="SAC",
        generator_parameters=REPLAY,
        normalization=Normalization(clip_observations=0.5),
    )
    samples = watch.samples[-1]
    assert samples.rewards.flatten().tolist() == [0.0] * 5 + [1.0] * 5
    assert float(samples.observations.abs().max()) <= 0.5


def test_time_limits_are_no_endings() -> None:
    def short() -> gym.Env[Any, Any]:
        return gym.make("CartPole-v1", max_episode_steps=5)

    agent = imitating("SQIL", generator_parameters=REPLAY)()
    agent.train(balanced_poles(), 60, training_environments=[short()], progress_bar=False)
    buffer = replay_of(agent)
    ends = buffer.dones[: buffer.pos, 0] == 1
    assert ends.sum() == 12
    assert np.array_equal(buffer.timeouts[: buffer.pos, 0], ends)


def transitions(dtype: Any = np.float32) -> ExpertTransitions:
    return ExpertTransitions(
        observations=np.arange(7, dtype=dtype)[:, None],
        actions=np.arange(5)[:, None],
        places=np.array([0, 1, 3, 4, 5]),
        dones=np.array([False, True, False, False, False]),
    )


def test_each_transition_is_drawn_with_its_successor_and_its_ending() -> None:
    space = spaces.Box(0, 255, (1,), np.uint8)
    buffer = DemonstratedReplayBuffer(10, space, spaces.Discrete(5), device="cpu")
    buffer.set_demonstrations(transitions(np.uint8))
    np.random.seed(0)  # noqa: NPY002
    samples = buffer.expert_buffer.sample(200)
    assert samples.observations.numpy().dtype == np.uint8
    rows = {
        (int(before), int(action), int(after), float(done))
        for before, action, after, done in zip(
            samples.observations, samples.actions, samples.next_observations, samples.dones, strict=True
        )
    }
    assert rows == {(0, 0, 1, 0.0), (1, 1, 2, 1.0), (3, 2, 4, 0.0), (4, 3, 5, 0.0), (5, 4, 6, 0.0)}


def test_each_of_the_expert_s_observations_is_kept_once() -> None:
    agent = imitating("SQIL", generator_parameters=REPLAY)()
    agent.train(balanced_poles(), 20, training_environments=several(cart_pole)(), progress_bar=False)
    learner: Any = agent.learner
    space = balanced_poles().observation_space, balanced_poles().action_space
    lessons = Lessons(episodes=balanced_poles(), validation=None, observation_space=space[0], action_space=space[1])  # type: ignore[arg-type]  # they are there
    learner.attach(lessons)
    kept: Any = replay_of(agent).expert_buffer
    raw = sum(one.observations.nbytes for one in balanced_poles())
    assert kept.transitions.observations.nbytes == raw
    learner.detach()
    assert not hasattr(replay_of(agent), "expert_buffer")


class Pictures(gym.ObservationWrapper[Any, Any, Any]):
    """CartPole's numbers as a little picture, channels last."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, (36, 40, 3), np.uint8)

    def observation(self, observation: Any) -> Any:
        picture = np.zeros((36, 40, 3), dtype=np.uint8)
        picture[: int(10 + 5 * observation[2]), :, 1] = 200
        return picture


def test_pictures_stay_bytes_with_their_channels_first() -> None:
    def make() -> gym.Env[Any, Any]:
        return Pictures(cart_pole())

    episodes = play(make, lambda _: 1, 1, max_steps=8)
    watch = trained(make, episodes, 24, generator_parameters={**REPLAY, "policy_kwargs": {}, "learning_starts": 18})
    samples = watch.samples[-1]
    assert samples.observations.shape == (10, 3, 36, 40)
    assert samples.observations.numpy().dtype == np.uint8
    assert set(np.unique(samples.observations[5:, 1].numpy())) == {0, 200}
    assert np.unique(samples.observations[5:, 0].numpy()).tolist() == [0]


def test_goes_on_with_other_demonstrations() -> None:
    agent = imitating("SQIL", generator_parameters=REPLAY)()
    for episodes in (balanced_poles(), balanced_poles()[:2]):
        agent.train(episodes, 40, training_environments=several(cart_pole)(), progress_bar=False)
    assert agent.timesteps == 80


def test_refuses_on_policy_algorithms() -> None:
    agent = imitating("SQIL", generator_class="PPO")()
    with pytest.raises(InvalidInputError, match=r"off-policy algorithm as generator_class.*got PPO"):
        agent.train(balanced_poles(), 20, training_environments=several(cart_pole)(), progress_bar=False)


@pytest.mark.parametrize("name", ["replay_buffer_class", "replay_buffer_kwargs", "n_steps"])
def test_refuses_another_replay(name: str) -> None:
    agent = imitating("SQIL", generator_parameters={name: 3})()
    with pytest.raises(InvalidInputError, match=f"'{name}' of DQN is set by SQIL"):
        agent.train(balanced_poles(), 20, training_environments=several(cart_pole)(), progress_bar=False)


def test_refuses_the_library_s_own_places() -> None:
    with pytest.raises(InvalidInputError, match="generator_class"):
        ImitationAgent("SQIL", {"rl_algo_class": DQN})


def test_refuses_continuous_actions_for_dqn() -> None:
    agent = imitating("SQIL", generator_parameters=REPLAY)()
    with pytest.raises(SpaceError, match="DQN"):
        agent.train(swung_pendulums(), 20, training_environments=several(pendulum)(), progress_bar=False)


def test_refuses_dict_observations() -> None:
    def make() -> gym.Env[Any, Any]:
        return TwoViews(cart_pole())

    agent = imitating("SQIL", generator_parameters=REPLAY)()
    with pytest.raises(SpaceError, match="SQIL of the imitation library takes no Dict"):
        agent.train(play(make, lambda _: 0, 1), 20, training_environments=[make()], progress_bar=False)


def test_refuses_other_spaces() -> None:
    agent = imitating("SQIL", generator_parameters=REPLAY)()
    with pytest.raises(SpaceError):
        agent.train(play(pendulum, swing, 1), 20, training_environments=several(cart_pole)(), progress_bar=False)


def test_refuses_to_train_without_demonstrations() -> None:
    with pytest.raises(InvalidInputError, match="give it an episode_sequence"):
        imitating("SQIL")().train(None, 20, training_environments=several(cart_pole)(), progress_bar=False)


def test_one_episode_of_one_step_is_enough() -> None:
    episode = Episode(
        observations=np.zeros((2, 4), dtype=np.float32),
        actions=np.zeros(1, dtype=np.int64),
        rewards=None,
        terminated=True,
    )
    agent = imitating("SQIL", generator_parameters=REPLAY)()
    agent.train([episode], 40, training_environments=several(cart_pole)(), progress_bar=False)
    assert agent.timesteps == 40
