"""Whole episodes of a policy: the same as an evaluation plays, in a known order, and nobody else is disturbed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.core.policy import PolicyOutput
from rl_framework.core.seeding import SeparateRandomness, capture_random_state, derive_seeds
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import ArchiveError, EnvironmentFailure, InvalidInputError, NotTrainedError, SpaceError
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.rollouts.play import play_episodes
from rl_framework.testing.environments import AnySpaceEnv, CountingEnv, MaskedCorridor, RaisingEnv, RecallEnv
from tests.evaluation.policies import ConstantPolicy, MaskedPolicy, RandomPolicy, RecallPolicy
from tests.evaluation.test_evaluate import LuckyEnv, SeedLengthEnv, UnseededVectorEnv, length_of

NEST = spaces.Dict({"camera": spaces.Box(0, 255, (2, 2), np.uint8), "arm": spaces.Tuple([spaces.Discrete(3, start=1)])})


class SamplingPolicy(ConstantPolicy):
    """Draws every action from its action space."""

    def act(self, observations: Any, *arguments: Any, **options: Any) -> PolicyOutput:
        count = len(observations["camera"])
        samples: list[Any] = [self.action_space.sample() for _ in range(count)]
        actions = {
            "camera": np.stack([sample["camera"] for sample in samples]).astype(np.int64),
            "arm": (np.array([sample["arm"][0] for sample in samples], dtype=np.int32),),
        }
        return PolicyOutput(actions, None)


class ReusingPolicy(ConstantPolicy):
    """Writes each batch of actions into the same array."""

    def __init__(self) -> None:
        super().__init__()
        self.actions = np.zeros(1, np.int64)

    def act(self, observations: Any, *arguments: Any, **options: Any) -> PolicyOutput:
        self.actions[0] = int(observations[0, 1]) % 2
        return PolicyOutput(self.actions, None)


@pytest.mark.parametrize("n_envs", [1, 3, 8, 20])
def test_episodes_come_in_dealt_order_whatever_the_number_of_environments(n_envs: int) -> None:
    episodes = list(play_episodes(ConstantPolicy(), SeedLengthEnv, 20, seed=5, n_envs=n_envs))
    assert [len(episode) for episode in episodes] == [length_of(seed) for seed in derive_seeds(5, 20)]
    single = list(play_episodes(ConstantPolicy(), SeedLengthEnv, 20, seed=5, n_envs=1))
    assert [episode.observations[:, 1:].tolist() for episode in episodes] == [
        episode.observations[:, 1:].tolist() for episode in single
    ]


@pytest.mark.parametrize("deterministic", [True, False])
def test_they_are_the_episodes_of_an_evaluation(deterministic: bool) -> None:
    options: dict[str, Any] = {"seed": 7, "n_envs": 4, "deterministic": deterministic}
    episodes = list(play_episodes(RandomPolicy(), LuckyEnv, 11, **options))
    evaluation = evaluate_policy(RandomPolicy(), LuckyEnv, 11, **options)
    assert [episode.total_reward for episode in episodes] == pytest.approx(evaluation.returns.tolist(), rel=1e-12)
    assert [len(episode) for episode in episodes] == evaluation.lengths.tolist()


@pytest.mark.parametrize("ends", ["terminated", "truncated"])
def test_an_episode_holds_its_true_last_observation(ends: Any) -> None:
    (first, second) = play_episodes(ConstantPolicy(), CountingEnv(lengths=(2, 3), ends=ends), 2, n_envs=1)
    assert first.observations[:, :2].tolist() == [[0, 0], [0, 1], [0, 2]]
    assert second.observations[:, :2].tolist() == [[1, 0], [1, 1], [1, 2], [1, 3]]
    assert [first.terminated, second.terminated] == [ends == "terminated"] * 2
    assert first.rewards is not None
    assert first.rewards.tolist() == [1.0, 2.0]
    assert first.rewards.dtype == np.float64
    assert first.infos is None


def test_nests_have_the_types_of_their_spaces() -> None:
    env = AnySpaceEnv(NEST, NEST, length=3)
    episodes = list(play_episodes(SamplingPolicy(NEST, NEST), env, 3, seed=0, n_envs=2))
    for episode in episodes:
        assert episode.observations["camera"].shape == (4, 2, 2)
        assert episode.observations["camera"].dtype == np.uint8
        assert episode.actions["camera"].dtype == np.uint8
        assert episode.actions["arm"][0].dtype == np.int64
    again = list(play_episodes(SamplingPolicy(NEST, NEST), AnySpaceEnv(NEST, NEST, length=3), 3, seed=0, n_envs=2))
    assert episodes == again


def test_arrays_that_a_policy_reuses_are_copied() -> None:
    (episode,) = play_episodes(ReusingPolicy(), CountingEnv(lengths=(4,)), 1)
    assert episode.actions.tolist() == [0, 1, 0, 1]


def test_short_episodes_are_not_over_represented() -> None:
    environments = [CountingEnv(lengths=(1,)), CountingEnv(lengths=(50,))]
    assert [len(one) for one in play_episodes(ConstantPolicy(), environments, 10, n_envs=2)] == [1, 50] * 5


def test_memory_and_masks_reach_the_policy() -> None:
    assert all(one.total_reward == 1 for one in play_episodes(RecallPolicy(), RecallEnv, 8, seed=0, n_envs=3))
    assert all(one.total_reward == 1 for one in play_episodes(MaskedPolicy(), MaskedCorridor, 4, seed=0, n_envs=2))


def test_environments_that_cannot_be_seeded_play_their_shares() -> None:
    env = UnseededVectorEnv([CountingEnv(lengths=(1,)), CountingEnv(lengths=(4,))], owned=True)
    assert [len(one) for one in play_episodes(ConstantPolicy(), env, 5)] == [1, 4, 1, 4, 1]


def test_an_episode_is_given_as_soon_as_it_is_over() -> None:
    env = CountingEnv(lengths=(3,))
    episodes = play_episodes(ConstantPolicy(), [env], 4, n_envs=1)
    assert env.episode == -1
    next(episodes)
    assert (env.episode, env.step_count) == (1, 0)
    episodes.close()


def drawn() -> list[float]:
    return [random.random(), float(np.random.random())]  # noqa: NPY002  the global generator is what is asked about


def test_neither_side_disturbs_the_other() -> None:
    undisturbed = list(play_episodes(RandomPolicy(), LuckyEnv, 6, seed=3, n_envs=2))
    policy = RandomPolicy()
    policy.action_space.seed(1)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  as above
    expected = [drawn() for _ in range(7)]
    policy.action_space.seed(1)
    samples = [policy.action_space.sample() for _ in range(7)]

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  as above
    policy.action_space.seed(1)
    found, sampled, played = [drawn()], [policy.action_space.sample()], []
    for episode in play_episodes(policy, LuckyEnv, 6, seed=3, n_envs=2):
        played.append(episode)
        found.append(drawn())
        sampled.append(policy.action_space.sample())
    assert played == undisturbed
    assert found == expected
    assert sampled == samples


def test_one_that_is_left_midway_leaves_no_trace() -> None:
    before = capture_random_state()
    episodes = play_episodes(RandomPolicy(), LuckyEnv, 6, seed=3, n_envs=2)
    next(episodes)
    episodes.close()
    after = capture_random_state()
    assert before["python"]["internal"].tolist() == after["python"]["internal"].tolist()
    assert before["numpy"]["keys"].tolist() == after["numpy"]["keys"].tolist()


class ClosingEnv(CountingEnv):
    """Notes how many of its kind were opened and closed."""

    opened: int = 0
    closed: int = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).opened += 1

    def close(self) -> None:
        type(self).closed += 1


@pytest.mark.parametrize("taken", [0, 1, 4], ids=["none", "some", "all"])
def test_what_was_opened_is_closed(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClosingEnv, "opened", 0)
    monkeypatch.setattr(ClosingEnv, "closed", 0)
    episodes = play_episodes(ConstantPolicy(), ClosingEnv, 4, n_envs=2)
    for _ in range(taken):
        next(episodes)
    episodes.close()
    assert ClosingEnv.opened == ClosingEnv.closed == (2 if taken else 0)


def test_a_failing_environment_ends_the_playing() -> None:
    before = drawn_after_seed()
    episodes = play_episodes(ConstantPolicy(), RaisingEnv(after=7, lengths=(5,)), 4, n_envs=1)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  as above
    next(episodes)
    with pytest.raises(EnvironmentFailure, match="ZeroDivisionError"):
        next(episodes)
    assert drawn() == before


def drawn_after_seed() -> list[float]:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  as above
    return drawn()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_episodes": 0}, "n_episodes of at least 1, got 0"),
        ({"n_episodes": 1, "n_envs": 0}, "n_envs of at least 1"),
        ({"n_episodes": 1, "seed": -1}, "seed of at least 0"),
    ],
    ids=["episodes", "environments", "seed"],
)
def test_numbers_that_cannot_be_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        play_episodes(ConstantPolicy(), CountingEnv, **arguments)


def test_other_spaces_are_refused() -> None:
    with pytest.raises(SpaceError, match="observation space of the environments"):
        next(play_episodes(ConstantPolicy(), gym.make("CartPole-v1"), 1))


def test_an_impossible_action_is_refused() -> None:
    with pytest.raises(SpaceError, match="choice 7"):
        next(play_episodes(ConstantPolicy(action=7), CountingEnv, 1))


class Player:
    """As much of an agent as plays episodes."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy

    @property
    def policy(self) -> Any:
        if self._policy is None:
            raise NotTrainedError("never trained")
        return self._policy

    def play_episodes(self, environments: Any, n_episodes: int, **options: Any) -> Iterator[Episode]:
        return play_episodes(self.policy, environments, n_episodes, **options)


def test_a_sequence_is_made_of_an_agents_episodes() -> None:
    player = Player(RandomPolicy())
    sequence = EpisodeSequence.from_agent(player, LuckyEnv, 6, seed=3, n_envs=2)
    assert list(sequence) == list(play_episodes(RandomPolicy(), LuckyEnv, 6, seed=3, n_envs=2))
    assert sequence.observation_space == player.policy.observation_space
    assert sequence.action_space == player.policy.action_space
    expected = {"environment_id": None, "source": "Player", "seed": 3, "deterministic": False}
    assert sequence.metadata == expected


def test_the_drawn_seed_and_the_environments_id_are_written_down() -> None:
    env = gym.make("CartPole-v1")
    player = Player(ConstantPolicy(env.observation_space, env.action_space))
    first = EpisodeSequence.from_agent(player, [env], 2)
    again = EpisodeSequence.from_agent(player, "CartPole-v1", 2, seed=first.metadata["seed"])
    assert first.metadata["environment_id"] == again.metadata["environment_id"] == "CartPole-v1"
    assert list(first) == list(again)


def test_what_an_agent_opened_is_closed_when_recording_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ClosingEnv, "opened", 0)
    monkeypatch.setattr(ClosingEnv, "closed", 0)
    monkeypatch.setattr("rl_framework.data.npy_files.NpyStream.append", full_disk)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ArchiveError, match=r"No space left.*larger disk") as failure:
        EpisodeSequence.from_agent(Player(ConstantPolicy()), ClosingEnv, 6, n_envs=2)
    assert ClosingEnv.opened == ClosingEnv.closed == 2
    assert list(tmp_path.iterdir()) == []
    assert failure.value.__cause__ is not None


def full_disk(*arguments: Any) -> None:
    raise OSError(28, "No space left on device")


def test_an_agent_that_was_never_trained_records_nothing() -> None:
    with pytest.raises(NotTrainedError):
        EpisodeSequence.from_agent(Player(None), LuckyEnv, 2)


def test_separate_randomness_goes_on_where_it_ended() -> None:
    space = spaces.Tuple([spaces.Discrete(100), spaces.Dict({"a": spaces.Box(0, 1, (2,))})])
    whole, parts = SeparateRandomness(4, space), SeparateRandomness(4, space)
    with whole.turn():
        expected = [(drawn(), space.sample()[0]) for _ in range(4)]
    found = []
    for _ in range(4):
        with parts.turn():
            found.append((drawn(), space.sample()[0]))
        drawn()
        space.sample()
    assert found == expected
