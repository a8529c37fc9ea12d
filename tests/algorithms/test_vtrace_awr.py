"""The episode trainer where it acts; what it learns from episodes is tested beside `EpisodeTrainer`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.algorithms.vtrace_awr import TensorEpisodes, VTraceAWR
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.trees import Tree
from rl_framework.data.episode import Episode
from rl_framework.envs.source import open_environments
from rl_framework.envs.tensor_env import TensorEnv, TensorStep
from rl_framework.envs.vector_env import EnvSpec, VectorEnv
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.nn.distributions import Categorical
from rl_framework.nn.episode_policy import EpisodePolicy
from rl_framework.nn.episode_tensors import EpisodeTensors
from rl_framework.nn.model import Model, ModelOutput
from rl_framework.testing.environments import MaskedCorridor, RecallEnv
from tests.rollouts.counting_env import CountingEnv, NestedCountingEnv

MEMORIES = (None, "lstm", "gru", "attention")
every_memory = pytest.mark.parametrize("memory", MEMORIES)


def config(memory: str | None = None, **options: Any) -> VTraceAWRConfig:
    network = {"body_sizes": (12,), "hidden_sizes": (8,), "memory": memory, "memory_size": 8, "window": 4}
    quick = {"epochs": 2, "value_warmup_epochs": 2, "value_epochs_before": 1, "value_epochs_after": 1}
    given = {"seed": 0, "device": "cpu", "steps_per_update": 40, "network": network, **quick, **options}
    return VTraceAWRConfig(**given)


@pytest.fixture
def recall() -> Iterator[VectorEnv]:
    with closing(open_environments([RecallEnv(delay) for delay in (2, 5)], n_envs=2)) as env:
        yield env


class OwnModel(Model):
    """Somebody's network, without memory."""

    encoding_size = 3

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any], width: int = 3) -> None:
        super().__init__(observation_space, action_space)
        self.layer, self.head = nn.Linear(3, width), nn.Linear(width, 3)
        self.encoding_size = width

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        encoding = torch.tanh(self.layer(observations / 10))
        return ModelOutput(Categorical(self.head(encoding), masks), None, state, {"encoding": encoding})


class NoEncoding(OwnModel):
    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        super().__init__(observation_space, action_space)
        self.encoding_size = None  # type: ignore[assignment]  # that is what is refused


# ------------------------------------------------------------------------------------------------ the verbs


class TestVerbs:
    @every_memory
    def test_what_was_collected_is_learned_from(self, memory: str | None, recall: VectorEnv) -> None:
        learner = VTraceAWR(recall, config(memory))
        weights = [parameter.detach().clone() for parameter in learner.network.parameters()]
        collected = learner.collect()
        assert collected.timesteps == 40
        assert sum(len(record.episode) for record in learner.replay) == sum(each.length for each in collected.episodes)
        learner.update()
        assert learner.updates == 1
        assert any(
            not torch.equal(before, after) for before, after in zip(weights, learner.network.parameters(), strict=True)
        )

    @every_memory
    def test_the_first_scores_are_those_of_acting(self, memory: str | None, recall: VectorEnv) -> None:
        learner = VTraceAWR(recall, config(memory))
        learner.collect()
        learner.collect()
        for record in learner.replay:
            scores = learner.model.score_episodes([record.episode])  # type: ignore[operator]  # an EpisodeModel
            assert record.log_prob is not None
            torch.testing.assert_close(scores.log_prob, record.log_prob.float(), atol=1e-5, rtol=1e-5)

    def test_without_any_episode_there_is_nothing_to_learn_from(self, recall: VectorEnv) -> None:
        with pytest.raises(InvalidInputError, match="nothing to learn from"):
            VTraceAWR(recall, config()).update()

    def test_without_a_new_episode_there_is_nothing_to_learn(self) -> None:
        learner = VTraceAWR(CountingEnv([50, 70]), config())
        for _ in range(2):
            learner.collect()
            assert learner.update().metrics == {}
        assert (len(learner.replay), learner.updates) == (0, 0)
        learner.collect()
        assert learner.update().metrics
        assert (len(learner.replay), learner.updates) == (1, 1)

    def test_on_policy_it_waits_for_an_episode_of_its_own_whatever_other_processes_have(self) -> None:
        class BesideOthers(VTraceAWR):
            def _can_learn(self, *, has_news: bool) -> bool:
                return super()._can_learn(has_news=True)

        learner = BesideOthers(CountingEnv([60]), config(replay_updates=1))
        learned = []
        for _ in range(4):
            learner.collect()
            learned.append(bool(learner.update().metrics))
        assert learned == [False, True, True, False]

    def test_episodes_are_cut(self) -> None:
        learner = VTraceAWR(CountingEnv([50, 70]), config(max_episode_length=8))
        collected = learner.collect()
        assert [(len(record.episode), record.terminated) for record in learner.replay] == [(8, False)] * 4
        assert collected.episodes == ()

    def test_ends_are_told_apart(self) -> None:
        learner = VTraceAWR(CountingEnv([5, 10], is_cut=[True, False]), config())
        learner.collect()
        assert {(len(record.episode), record.terminated) for record in learner.replay} == {(5, False), (10, True)}

    def test_progress_follows_the_run(self, recall: VectorEnv) -> None:
        learner = VTraceAWR(recall, config())
        learner.begin(recall.reset(0), timesteps=100, target_timesteps=400)
        for expected in (0.35, 0.45):
            learner.collect()
            learner.update()
            assert learner.progress == pytest.approx(expected)

    def test_masks_hold_while_acting_and_learning(self) -> None:
        with closing(open_environments([MaskedCorridor() for _ in range(2)], n_envs=2)) as env:
            learner = VTraceAWR(env, config())
            for _ in range(4):
                learner.collect()
                learner.update()
        assert all(record.episode.masks is not None for record in learner.replay)

    @pytest.mark.parametrize("memory", [None, "gru"])
    def test_nested_spaces(self, memory: str | None) -> None:
        learner = VTraceAWR(NestedCountingEnv([4, 7]), config(memory, max_episode_length=5))
        for _ in range(2):
            learner.collect()
            learner.update()
        assert learner.updates == 2


class TestNormalization:
    def statistics(self, learner: VTraceAWR) -> tuple[float, list[float]]:
        encoder = learner.network.encoder
        assert encoder.is_normalized  # type: ignore[union-attr]  # an encoder
        part = encoder.parts[0].normalization  # type: ignore[union-attr,index]  # likewise
        return float(part.count), part.mean.tolist()

    def test_statistics_rest_while_it_acts_and_hold_all_episodes(self) -> None:
        learner = VTraceAWR(CountingEnv([4, 8]), config())
        assert self.statistics(learner) == (0.0, [0.0] * 3)
        learner.collect()
        assert self.statistics(learner) == (0.0, [0.0] * 3)
        learner.update()
        count, mean = self.statistics(learner)
        assert count == 5 * 5 + 2 * 9
        assert mean == pytest.approx([18 / count, (5 * 10 + 9) / count, (5 * 10 + 2 * 36) / count])
        learner.collect()
        learner.update()
        assert self.statistics(learner)[0] == 10 * 5 + 5 * 9

    def test_an_update_that_fails_leaves_them_alone(self) -> None:
        learner = VTraceAWR(CountingEnv([4, 8]), config())
        learner.collect()
        weights = next(learner.network.parameters()).data
        good = weights.clone()
        weights.fill_(math.nan)
        for _ in range(2):
            with pytest.raises(InvalidInputError, match="is nan"):
                learner.update()
        assert self.statistics(learner) == (0.0, [0.0] * 3)
        weights.copy_(good)
        learner.update()
        assert self.statistics(learner)[0] == 5 * 5 + 2 * 9


class TestRecordings:
    """Episodes that somebody else has played."""

    def recorded(self, length: int = 6) -> Episode:
        rng = np.random.default_rng(length)
        return Episode(
            observations=rng.normal(size=(length + 1, 3)).astype(np.float32),
            actions=rng.integers(0, 3, length),
            rewards=rng.normal(size=length),
            terminated=True,
        )

    @pytest.mark.parametrize("memory", [None, "gru"])
    def test_they_are_learned_from_as_often_as_one_likes_and_then_it_acts(self, memory: str | None) -> None:
        learner = VTraceAWR(CountingEnv([4, 7]), config(memory, replay_updates=None))
        for length in (6, 3):
            episode = self.recorded(length)
            learner.add_episode(episode, rewards=episode.rewards, terminated=episode.terminated)
        for _ in range(3):
            assert learner.update().metrics
        assert len(learner.replay) == 2
        learner.collect()
        learner.update()
        assert (learner.updates, len(learner.replay)) == (4, 2 + 7)

    def test_their_statistics_count_once(self) -> None:
        learner = VTraceAWR(CountingEnv([4, 7]), config(replay_updates=None))
        episode = self.recorded()
        learner.add_episode(episode, rewards=episode.rewards, terminated=True)
        for _ in range(2):
            learner.update()
        normalization = learner.network.encoder.parts[0].normalization  # type: ignore[union-attr,index]  # an encoder
        assert float(normalization.count) == 7
        assert normalization.mean.tolist() == pytest.approx(episode.observations.mean(0).tolist(), abs=1e-6)

    def test_impossible_actions_are_refused_at_once(self) -> None:
        learner = VTraceAWR(CountingEnv([4, 7]), config())
        wrong = Episode(
            observations=np.zeros((3, 3), np.float32), actions=np.array([0, 7]), rewards=np.zeros(2), terminated=True
        )
        with pytest.raises(SpaceError):
            learner.add_episode(wrong, rewards=wrong.rewards, terminated=True)
        assert learner.n_episodes == 0


# ------------------------------------------------------------------------------------------------ networks


class TestNetworks:
    def test_somebody_s_own(self) -> None:
        learner = VTraceAWR(CountingEnv([4, 7]), config(network=None, model=OwnModel, model_parameters={"width": 5}))
        learner.collect()
        learner.update()
        assert isinstance(learner.network, OwnModel)
        assert learner.model.encoding_size == 5

    def test_one_without_encodings_is_refused(self) -> None:
        with pytest.raises(SpaceError, match="encoding_size"):
            VTraceAWR(CountingEnv([4, 7]), config(network=None, model=NoEncoding))

    def test_the_seed_decides_on_the_weights(self) -> None:
        one, two, other = (VTraceAWR(CountingEnv([4]), config(seed=seed)) for seed in (3, 3, 4))
        weights = [
            torch.cat([each.flatten() for each in learner.network.parameters()]) for learner in (one, two, other)
        ]
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])
        assert isinstance(one.network, EpisodePolicy)


# ------------------------------------------------------------------------------------------------ state


def numbers(learner: VTraceAWR) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in learner.model.state_dict().values()]


@every_memory
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(memory: str | None, tmp_path: Any) -> None:
    env = CountingEnv([7, 3, 12], is_cut=[True, False, False])
    learner = VTraceAWR(env, config(memory, steps_per_update=15, minibatch_timesteps=8))
    learner.begin(env.reset(), timesteps=0, target_timesteps=200)
    for _ in range(3):
        learner.collect()
        learner.update()
    write_state(tmp_path, "state", {"learner": learner.state_dict(), "env": env.state_dict()})
    expected = []
    for _ in range(3):
        learner.collect()
        expected.append(learner.update().metrics)

    saved = read_state(tmp_path, "state")
    other_env = CountingEnv([7, 3, 12], is_cut=[True, False, False])
    other = VTraceAWR(other_env, config(memory, steps_per_update=15, minibatch_timesteps=8, seed=5))
    other.load_state_dict(saved["learner"])
    assert_same_tree(other.state_dict(), saved["learner"])
    other.begin(other_env.load_state_dict(saved["env"]), timesteps=45, target_timesteps=200, resumes=True)
    found = []
    for _ in range(3):
        other.collect()
        found.append(other.update().metrics)
    assert found == expected
    assert all(torch.equal(one, two) for one, two in zip(numbers(learner), numbers(other), strict=True))


def assert_same_tree(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same_tree(one[name], other[name])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_same_tree(first, second)
    elif isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif hasattr(one, "tolist"):
        assert one.tolist() == other.tolist()
    else:
        assert one == other or one != one


def test_a_new_run_forgets_what_was_running() -> None:
    env = CountingEnv([50, 70])
    learner = VTraceAWR(env, config())
    learner.collect()
    learner.begin(env.reset(), timesteps=40, target_timesteps=80)
    learner.collect()
    learner.collect()
    assert len(learner.replay) == 0


def test_episodes_go_into_files_and_back() -> None:
    codec = TensorEpisodes(torch.device("cpu"))
    episode = EpisodeTensors(observations={"a": torch.rand(4, 2)}, targets=torch.arange(3), masks=torch.ones(3, 3) > 0)
    again = codec.decode(codec.encode(episode))
    assert torch.equal(again.observations["a"], episode.observations["a"])
    assert torch.equal(again.targets, episode.targets)
    assert again.masks is not None
    assert bool(again.masks.all())


# ------------------------------------------------------------------------------------------------ learning


class Signs(TensorEnv):
    """One step: a number is seen, and naming its sign earns 1."""

    def __init__(self, n_envs: int) -> None:
        self.spec = EnvSpec(n_envs=n_envs, observation_space=spaces.Box(-1, 1, (1,)), action_space=spaces.Discrete(2))
        self.device = torch.device("cpu")
        self.generator = torch.Generator().manual_seed(0)

    def reset(self, seed: int | None = None, options: Any = None) -> Tree:
        self.shown = torch.rand(self.n_envs, 1, generator=self.generator) * 2 - 1
        return self.shown

    def step(self, actions: Tree) -> TensorStep:
        right = actions == (self.shown[:, 0] > 0)
        ended, before = torch.ones_like(right), self.shown
        return TensorStep(self.reset(), right.float(), ended, ~ended, before)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> Tree:
        return self.reset()

    def with_n_envs(self, n_envs: int) -> TensorEnv:
        return Signs(n_envs)


def test_it_learns_what_pays() -> None:
    learner = VTraceAWR(Signs(20), config(steps_per_update=200, minibatch_timesteps=100, learning_rate=5e-3))
    earned = []
    for _ in range(12):
        earned.append(learner.collect().metrics["rollout/mean_reward"])
        learner.update()
    assert earned[0] < 0.65
    assert earned[-1] > 0.9
