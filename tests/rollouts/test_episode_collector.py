from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.trees import leaves, select
from rl_framework.envs.source import open_environments
from rl_framework.envs.tensor_env import TensorEnv
from rl_framework.errors import InvalidInputError
from rl_framework.nn.episode_policy import EpisodePolicy, EpisodePolicyConfig
from rl_framework.nn.model import Model
from rl_framework.nn.model_episodes import ModelEpisodes
from rl_framework.rollouts import watched_env
from rl_framework.rollouts.episode_collector import CollectedEpisode, EpisodeCollector
from rl_framework.rollouts.sampling import sample
from rl_framework.testing.environments import MaskedCorridor, RecallEnv
from tests.rollouts.counting_env import CountingEnv, NestedCountingEnv
from tests.rollouts.tiny_models import TinyModel, TinyRecurrent, generator

MODELS: dict[str, Callable[[], Model]] = {"plain": TinyModel, "recurrent": TinyRecurrent}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def small(env: TensorEnv, memory: str | None = None) -> EpisodePolicy:
    config = EpisodePolicyConfig(body_sizes=(6,), hidden_sizes=(5,), memory=memory, memory_size=8, window=3)
    torch.manual_seed(1)
    policy = EpisodePolicy(env.spec.observation_space, env.spec.action_space, config)
    with torch.no_grad():
        policy.head.linear.weight.mul_(100)
    return policy


def told(episode: CollectedEpisode) -> tuple[int, int, list[int], list[int], bool]:
    """Row, number in it, steps seen, rewards and end of an episode of a `CountingEnv`."""
    seen = episode.tensors.observations.long()
    (row,), (number,) = set(seen[:-1, 0].tolist()), set(seen[:-1, 1].tolist())
    return row, number, seen[:, 2].tolist(), episode.rewards.long().tolist(), episode.terminated


# ------------------------------------------------------------------------------------------------ episodes


@every_model
@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    amounts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    cuts=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_every_step_is_in_one_episode(
    make: Callable[[], Model], lengths: list[int], amounts: list[int], cuts: list[bool]
) -> None:
    env = CountingEnv(lengths, is_cut=cuts[: len(lengths)])
    collector = EpisodeCollector(make(), env, generator=generator())
    found, taken = [], 0
    for amount in amounts:
        collected = collector.collect(amount)
        taken += collected.timesteps
        found += [told(each) for each in collected.episodes]
        assert amount <= collected.timesteps < amount + len(lengths)
    steps = taken // len(lengths)
    for row, length in enumerate(lengths):
        mine = [each for each in found if each[0] == row]
        assert [each[1] for each in mine] == list(range(steps // length))
        for _, _, seen, rewards, terminated in mine:
            assert seen == list(range(length + 1))
            assert rewards == list(range(1, length + 1))
            assert terminated == (not cuts[row])
    assert env.n_resets == 1


def test_episodes_come_in_the_order_in_which_they_end() -> None:
    collector = EpisodeCollector(TinyModel(), CountingEnv([4, 2, 3]))
    assert [told(each)[:2] for each in collector.collect(12).episodes] == [(1, 0), (2, 0), (0, 0), (1, 1)]
    assert [told(each)[:2] for each in collector.collect(3).episodes] == []
    assert [told(each)[:2] for each in collector.collect(3).episodes] == [(1, 2), (2, 1)]


@every_model
def test_nested_observations_and_actions_are_those_that_were_sampled(make: Callable[[], Model]) -> None:
    env = NestedCountingEnv([3, 5])
    policy = small(env, "gru" if make is TinyRecurrent else None)
    rollout = sample(policy, NestedCountingEnv([3, 5]), 10, generator=generator())
    collector = EpisodeCollector(policy, env, generator=generator())
    episodes = [*collector.collect(8).episodes, *collector.collect(12).episodes]
    spans = [(0, 0, 3), (1, 0, 5), (0, 3, 6), (0, 6, 9), (1, 5, 10)]
    assert len(episodes) == len(spans)
    for episode, (row, begin, end) in zip(episodes, spans, strict=True):
        expected = select(rollout.actions, (slice(begin, end), row))
        assert all(torch.equal(a, b) for a, b in zip(leaves(expected), leaves(episode.tensors.targets), strict=True))
        assert rollout.log_prob is not None
        assert torch.equal(rollout.log_prob[begin:end, row], episode.log_prob)
        seen = select(rollout.observations, (slice(begin, end), row))
        ours = select(episode.tensors.observations, slice(None, -1))
        assert all(torch.equal(a, b) for a, b in zip(leaves(seen), leaves(ours), strict=True))
        assert episode.tensors.observations["numbers"][-1, 2] == end - begin


@pytest.mark.parametrize("memory", [None, "gru", "lstm", "attention"])
def test_a_model_says_of_an_episode_what_it_said_when_it_acted(memory: str | None) -> None:
    with closing(open_environments([RecallEnv(delay=each) for each in (2, 5, 9)], n_envs=3)) as env:
        config = EpisodePolicyConfig(
            body_sizes=(6,), hidden_sizes=(5,), memory=memory, memory_size=8, window=4, normalize_observations=False
        )
        torch.manual_seed(0)
        policy = EpisodePolicy(env.spec.observation_space, env.spec.action_space, config)
        with torch.no_grad():
            policy.head.linear.weight.mul_(100)
        collector = EpisodeCollector(policy, env, max_length=7)
        episodes = [each for _ in range(4) for each in collector.collect(20).episodes]
    assert {len(each) for each in episodes} >= {3, 6, 7}
    scores = ModelEpisodes(policy).score_episodes([each.tensors for each in episodes])
    torch.testing.assert_close(scores.log_prob, torch.cat([each.log_prob for each in episodes]), atol=1e-5, rtol=1e-5)


def test_masks_are_recorded() -> None:
    with closing(open_environments([MaskedCorridor() for _ in range(2)], n_envs=2)) as env:
        policy = EpisodePolicy(
            env.spec.observation_space, env.spec.action_space, EpisodePolicyConfig(normalize_observations=False)
        )
        episodes = EpisodeCollector(policy, env).collect(80).episodes
    assert episodes
    for episode in episodes:
        masks, seen = episode.tensors.masks, episode.tensors.observations[:-1, 0]
        assert masks is not None
        assert torch.equal(masks, torch.stack([seen > 0, seen < 1, torch.zeros_like(seen, dtype=torch.bool)], 1))
    scores = ModelEpisodes(policy).score_episodes([each.tensors for each in episodes])
    torch.testing.assert_close(scores.log_prob, torch.cat([each.log_prob for each in episodes]))


# ------------------------------------------------------------------------------------------------ lengths


def pieces(length: int, greatest: int) -> list[tuple[int, int]]:
    return [(low, min(low + greatest, length)) for low in range(0, length, greatest)]


@every_model
@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    greatest=st.integers(1, 6),
    amounts=st.lists(st.integers(1, 20), min_size=1, max_size=4),
)
def test_long_episodes_are_cut_and_go_on(
    make: Callable[[], Model], lengths: list[int], greatest: int, amounts: list[int]
) -> None:
    collector = EpisodeCollector(make(), CountingEnv(lengths), max_length=greatest)
    collections = [collector.collect(amount) for amount in amounts]
    found = [told(episode) for each in collections for episode in each.episodes]
    steps = sum(each.timesteps for each in collections) // len(lengths)
    for row, length in enumerate(lengths):
        wanted = [(number, *piece) for number in range(200) for piece in pieces(length, greatest)]
        mine = [each for each in found if each[0] == row]
        assert len(mine) == sum(number * length + high <= steps for number, _, high in wanted)
        for (_, number, seen, rewards, terminated), (expected, low, high) in zip(mine, wanted, strict=False):
            assert number == expected
            assert seen == list(range(low, high + 1))
            assert rewards == list(range(low + 1, high + 1))
            assert terminated == (high == length)


def test_summaries_are_of_the_environments_own_episodes() -> None:
    for keeps_books in (False, True):
        env = CountingEnv([7, 3], keeps_books=keeps_books)
        collector = EpisodeCollector(TinyModel(), env, max_length=2, keeps_unfinished=keeps_books)
        summaries = [each for amount in (6, 10, 4) for each in collector.collect(amount).summaries]
        assert sorted((each.row, each.length, each.total_reward) for each in summaries) == [
            (0, 7, 28.0), (1, 3, 6.0), (1, 3, 6.0), (1, 3, 6.0),
        ]  # fmt: skip


def test_a_policy_begins_what_follows_a_cut_without_memory() -> None:
    collector = EpisodeCollector(TinyRecurrent(), CountingEnv([10]), max_length=4)
    collector.collect(5)
    assert collector.position.state["age"].tolist() == [1]


@every_model
def test_unfinished_episodes_may_be_handed_out(make: Callable[[], Model]) -> None:
    collector = EpisodeCollector(make(), CountingEnv([5, 2]), keeps_unfinished=False)
    first, second = collector.collect(6).episodes, collector.collect(4).episodes
    assert [told(each) for each in first] == [
        (1, 0, [0, 1, 2], [1, 2], True),
        (0, 0, [0, 1, 2, 3], [1, 2, 3], False),
        (1, 1, [0, 1], [1], False),
    ]
    assert [told(each) for each in second] == [
        (1, 1, [1, 2], [2], True),
        (0, 0, [3, 4, 5], [4, 5], True),
        (1, 2, [0, 1], [1], False),
    ]


# ------------------------------------------------------------------------------------------------ devices


@every_model
def test_where_the_host_may_not_look_the_same_comes_out(
    make: Callable[[], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    def play() -> list[Any]:
        env = NeverSilent([3, 5, 9], is_cut=[True, False, False])
        collector = EpisodeCollector(make(), env, max_length=4, generator=generator())
        return [told(each) for amount in (5, 9, 12, 1, 30) for each in collector.collect(amount).episodes]

    looking = play()
    monkeypatch.setattr(watched_env, "can_look", lambda _: False)
    assert play() == looking


class NeverSilent(CountingEnv):
    """Tells what followed in every step, as environments on a device do."""

    def step(self, actions: Any) -> Any:
        from dataclasses import replace

        result = super().step(actions)
        return replace(result, final=result.observations) if result.final is None else result


# ------------------------------------------------------------------------------------------------ state


@pytest.mark.parametrize("memory", [None, "gru", "attention"])
def test_what_was_interrupted_goes_on_bit_for_bit(memory: str | None, tmp_path: Any) -> None:
    env = CountingEnv([7, 3, 12], is_cut=[True, False, False])
    policy, drawn = small(env, memory), generator()
    collector = EpisodeCollector(policy, env, max_length=5, generator=drawn)
    for amount in (6, 4):
        collector.collect(amount)
    write_state(tmp_path, "state", {"collector": collector.state_dict(), "env": env.state_dict()})
    drawn_then = drawn.get_state()
    expected = [each for _ in range(4) for each in collector.collect(11).episodes]

    saved, other = read_state(tmp_path, "state"), CountingEnv([7, 3, 12], is_cut=[True, False, False])
    resumed = EpisodeCollector(policy, other, max_length=5, generator=drawn)
    drawn.set_state(drawn_then)
    resumed.begin(other.load_state_dict(saved["env"]), state=saved["collector"])
    found = [each for _ in range(4) for each in resumed.collect(11).episodes]
    assert_same(found, expected)


def assert_same(ours: Sequence[CollectedEpisode], theirs: Sequence[CollectedEpisode]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert told(one) == told(other)
        assert torch.equal(one.log_prob, other.log_prob)
        assert torch.equal(one.tensors.targets, other.tensors.targets)


def test_the_state_of_other_rows_is_left_alone() -> None:
    collector = EpisodeCollector(TinyModel(), CountingEnv([7, 3]))
    collector.collect(4)
    env = CountingEnv([7, 3, 4])
    other = EpisodeCollector(TinyModel(), env)
    other.begin(env.reset(), state=collector.state_dict())
    assert [told(each)[:3] for each in other.collect(9).episodes] == [(1, 0, [0, 1, 2, 3])]


def test_before_the_first_step_there_is_no_state() -> None:
    collector = EpisodeCollector(TinyModel(), CountingEnv([7, 3]))
    assert collector.state_dict() is None
    with pytest.raises(InvalidInputError, match="begin"):
        _ = collector.position


@pytest.mark.parametrize(("name", "options"), [("max_length", {"max_length": 0}), ("n_steps", {})])
def test_numbers_that_make_no_sense(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=name):
        EpisodeCollector(TinyModel(), CountingEnv([7, 3]), **options).collect(0)
