from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.algorithms.base import make_config
from rl_framework.algorithms.off_policy_actor_critic import OffPAC
from rl_framework.algorithms.policy_gradient import A2C, REINFORCE, PolicyGradient, REINFORCEWithBaseline, known_values
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.trees import Tree
from rl_framework.data.rollout import Rollout
from rl_framework.envs.source import open_environments
from rl_framework.envs.tensor_env import TensorEnv
from rl_framework.envs.tensor_task import SimulatedTask
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.errors import InvalidInputError
from rl_framework.nn.distributions import Categorical
from rl_framework.nn.model import Model, ModelOutput
from rl_framework.rollouts.sampling import sample
from rl_framework.rollouts.scoring import Scores
from rl_framework.testing.environments import AnySpaceEnv

ALGORITHMS: list[type[PolicyGradient]] = [REINFORCE, REINFORCEWithBaseline, A2C, OffPAC]
WITH_VALUES = ALGORITHMS[1:]
SMALL: dict[str, Any] = {"hidden_sizes": (8,), "memory_size": 8}
PLAIN: dict[str, Any] = {
    "optimizer": "SGD",
    "optimizer_parameters": {},
    "learning_rate": 1.0,
    "max_gradient_norm": None,
}
"""With these the parameters change by the gradient itself."""


class Walk(SimulatedTask):
    """Steps bring 1, or 2 with action 1. An episode ends after `length` steps, or, if wanted, with action 1 already."""

    def __init__(self, n_envs: int, length: int = 3, *, stops: bool = False, time_limit: int | None = None) -> None:
        self.length = length
        self.stops = stops
        box, two = spaces.Box(-10.0, 10.0, (2,)), spaces.Discrete(2)
        super().__init__(n_envs, box, two, max_episode_steps=time_limit)

    def initial_state(self, n_rows: int) -> Tensor:
        return torch.zeros(n_rows)

    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state = state + 1
        ended = state >= self.length
        return state, 1.0 + actions, ended | (actions == 1) if self.stops else ended

    def observe(self, state: Tensor) -> Tensor:
        return torch.stack([state, torch.ones_like(state)], 1)


class Recall(SimulatedTask):
    """Shows a cue in the first of three observations, and pays 1 for naming it in the third step."""

    def __init__(self, n_envs: int) -> None:
        super().__init__(n_envs, spaces.Box(-1.0, 3.0, (2,)), spaces.Discrete(2))

    def initial_state(self, n_rows: int) -> Tensor:
        cues = (torch.rand(n_rows, generator=self.generator) < 0.5).float()
        return torch.stack([torch.zeros(n_rows), cues], 1)

    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state = state + torch.tensor([1.0, 0.0])
        ended = state[:, 0] == 3
        return state, (ended & (actions == state[:, 1])).float(), ended

    def observe(self, state: Tensor) -> Tensor:
        is_shown = state[:, 0] == 0
        return torch.stack([state[:, 0], torch.where(is_shown, 2 * state[:, 1] - 1, 0.0)], 1)


class Preferences(Model):
    """One number per choice, whatever is observed, and no values."""

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        super().__init__(observation_space, action_space)
        self.logits = nn.Parameter(torch.tensor([0.5, -0.3]))

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        return ModelOutput(Categorical(self.logits.expand(len(observations), 2)))


def make(algorithm_class: type[PolicyGradient], env: TensorEnv | None = None, **parameters: Any) -> PolicyGradient:
    """A small learner, reproducible, in environments where episodes take three steps."""
    shorter = {"horizon": 3} if algorithm_class is A2C or algorithm_class is OffPAC else {}
    defaults = {"network": SMALL, "seed": 3, "device": "cpu", **shorter}
    config = make_config(algorithm_class.Config, {**defaults, **parameters})
    return algorithm_class(Walk(4) if env is None else env, config)


def one_update(algorithm: PolicyGradient) -> dict[str, float]:
    algorithm.collect()
    return dict(algorithm.update().metrics)


def weights(algorithm: PolicyGradient) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in algorithm.model.state_dict().items()}


def written(algorithm: PolicyGradient, folder: Path) -> dict[str, bytes]:
    """The files of a learner's state, bit for bit."""
    folder.mkdir()
    write_state(folder, "algorithm", algorithm.state_dict())
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class Spy:
    """Notes what the terms of the loss are made from."""

    def __init__(self, algorithm: PolicyGradient, monkeypatch: pytest.MonkeyPatch) -> None:
        self._terms = algorithm.terms
        monkeypatch.setattr(algorithm, "terms", self)

    def __call__(self, rollout: Rollout, scores: Scores, weights: Tensor, targets: Tensor | None = None) -> Tensor:
        self.rollout, self.weights, self.targets = rollout, weights, targets
        self.log_prob = scores.log_prob.detach()
        self.values = torch.zeros(()) if targets is None else known_values(scores.values).detach()
        return self._terms(rollout, scores, weights, targets)


def returns_by_hand(rollout: Rollout, gamma: float, *, bootstrap: bool) -> Tensor:
    """Returns to go, as one would write them down. `[T, B]`"""
    returns = torch.zeros_like(rollout.rewards)
    for row in range(rollout.n_rows):
        following = 0.0
        for step in reversed(range(len(rollout))):
            if rollout.terminated[step, row]:
                following = 0.0
            elif rollout.truncated[step, row] or step == len(rollout) - 1:
                assert rollout.next_values is not None
                following = float(rollout.next_values[step, row]) if bootstrap else 0.0
            following = float(rollout.rewards[step, row]) + gamma * following
            returns[step, row] = following
    return returns


# What is learned from


def test_the_gradient_of_reinforce_on_a_bandit_is_the_one_of_the_expected_reward() -> None:
    n_pulls = 20_000
    bandit = Walk(n_pulls, length=1)
    algorithm = make(REINFORCE, bandit, network=None, model=Preferences, **PLAIN)
    before = torch.tensor([0.5, -0.3])
    one_update(algorithm)
    gradient = weights(algorithm)["logits"] - before
    chances, rewards = before.softmax(0), torch.tensor([1.0, 2.0])
    exact = chances * (rewards - chances @ rewards)
    samples = rewards.unsqueeze(1) * (torch.eye(2) - chances)  # of each arm, with its chance
    variance = chances @ samples**2 - exact**2
    assert torch.all((gradient - exact).abs() < 3 * (variance / n_pulls).sqrt())
    assert torch.all(exact.abs() > 10 * (variance / n_pulls).sqrt())


@pytest.mark.parametrize("algorithm_class", ALGORITHMS)
@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_actions_weigh_what_followed_them_discounted(
    algorithm_class: type[PolicyGradient], gamma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = make(algorithm_class, gamma=gamma, gae_lambda=1.0)
    seen = Spy(algorithm, monkeypatch)
    one_update(algorithm)
    expected = returns_by_hand(seen.rollout, gamma, bootstrap=True)
    assert seen.rollout.terminated[2].all()
    torch.testing.assert_close(seen.weights, expected - seen.values)


@pytest.mark.parametrize("algorithm_class", WITH_VALUES)
def test_values_learn_the_plain_return_before_an_ending(
    algorithm_class: type[PolicyGradient], monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = make(algorithm_class, gamma=0.9, gae_lambda=1.0)
    seen = Spy(algorithm, monkeypatch)
    one_update(algorithm)
    torch.testing.assert_close(seen.targets, returns_by_hand(seen.rollout, 0.9, bootstrap=False))


@pytest.mark.parametrize("algorithm_class", ALGORITHMS)
def test_a_time_limit_goes_on_with_a_value_where_there_are_values(
    algorithm_class: type[PolicyGradient], monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = make(algorithm_class, Walk(4, length=5, time_limit=2), gamma=0.9, gae_lambda=1.0)
    seen = Spy(algorithm, monkeypatch)
    one_update(algorithm)
    assert seen.rollout.truncated[1].all()
    plain, bootstrapped = (returns_by_hand(seen.rollout, 0.9, bootstrap=choice) for choice in (False, True))
    assert not torch.allclose(plain, bootstrapped)
    if seen.targets is None:
        torch.testing.assert_close(seen.weights, plain)
    else:
        torch.testing.assert_close(seen.targets, bootstrapped)


def test_every_transition_weighs_the_same_and_resting_rows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = make(REINFORCE, Walk(8, length=4, stops=True), gamma=1.0)
    seen = Spy(algorithm, monkeypatch)
    metrics = one_update(algorithm)
    valid = seen.rollout.valid
    assert valid is not None
    assert 8 < int(valid.sum()) < valid.numel()
    weighted = seen.log_prob * seen.weights
    terms = [float(weighted[step, row]) for step, row in valid.nonzero().tolist()]
    assert metrics["train/policy_loss"] == pytest.approx(-sum(terms) / len(terms), abs=1e-6)


@pytest.mark.parametrize("algorithm_class", WITH_VALUES)
def test_standardised_advantages_leave_the_values_their_gradient(algorithm_class: type[PolicyGradient]) -> None:
    plain, standardised = (
        make(algorithm_class, standardize_advantages=choice, gae_lambda=1.0, **PLAIN) for choice in (False, True)
    )
    before = weights(plain)
    one_update(plain)
    one_update(standardised)
    for name in (each for each in before if each.startswith("value_")):
        assert not torch.equal(weights(plain)[name], before[name])
        torch.testing.assert_close(weights(standardised)[name], weights(plain)[name])
    assert not torch.allclose(weights(plain)["head.linear.bias"], weights(standardised)["head.linear.bias"])


def test_standardised_advantages_have_mean_zero_and_deviation_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, standardised = (make(A2C, standardize_advantages=choice) for choice in (False, True))
    losses = []
    for algorithm in (plain, standardised):
        seen = Spy(algorithm, monkeypatch)
        losses.append(one_update(algorithm)["train/policy_loss"])
        if algorithm is standardised:
            worth = (seen.weights - seen.weights.mean()) / seen.weights.std()
            assert losses[1] == pytest.approx(-float((seen.log_prob * worth).mean()), abs=1e-5)
    assert losses[0] != pytest.approx(losses[1], abs=1e-3)


# Off-policy


@pytest.mark.parametrize("memory", [None, "gru"])
def test_off_policy_learning_from_oneself_is_reinforce_with_a_baseline(memory: str | None) -> None:
    shared = {"network": {**SMALL, "memory": memory}, "gamma": 0.9, **PLAIN, "learning_rate": 0.1}
    off_policy = make(OffPAC, gae_lambda=1.0, **shared)
    reinforce = make(REINFORCEWithBaseline, **shared)
    a2c = make(A2C, gae_lambda=1.0, **shared)
    before = weights(off_policy)
    for algorithm in (off_policy, reinforce, a2c):
        one_update(algorithm)
    for name, expected in weights(reinforce).items():
        torch.testing.assert_close(weights(off_policy)[name], expected)
        torch.testing.assert_close(weights(a2c)[name], expected)
    assert not torch.allclose(before["head.linear.weight"], weights(off_policy)["head.linear.weight"])


def box_by_hand(rollout: Rollout, values: Tensor, last: Tensor, ratios: Tensor, gamma: float, decay: float) -> Tensor:
    """How far the paper's box moves the value of each step: errors times traces. `[T, B]`"""
    moved = torch.zeros_like(values)
    for row in range(rollout.n_rows):
        traces = torch.zeros(len(rollout))
        for step in range(len(rollout)):
            traces[step] = 1.0
            traces = traces * ratios[step, row]
            following = last[row] if step == len(rollout) - 1 else values[step + 1, row]
            if rollout.truncated[step, row]:
                assert rollout.next_values is not None
                following = rollout.next_values[step, row]
            goes_on = 0.0 if rollout.terminated[step, row] else gamma
            moved[:, row] += traces * (rollout.rewards[step, row] + goes_on * following - values[step, row])
            traces = traces * (0.0 if rollout.ended[step, row] else gamma * decay)
    return moved


@pytest.mark.parametrize("ratio_clip", [None, 1.05])
def test_off_policy_weights_are_what_the_traces_of_the_paper_add_up_to(
    ratio_clip: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = Walk(16, length=9, stops=True, time_limit=3)
    algorithm = make(OffPAC, env, gamma=0.9, gae_lambda=0.7, ratio_clip=ratio_clip, horizon=8)
    algorithm.collect()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in algorithm.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise))
    position = algorithm.position
    last = algorithm.model.values(position.observations).detach()
    seen = Spy(algorithm, monkeypatch)
    algorithm.update()
    rollout = seen.rollout
    assert rollout.log_prob is not None
    assert seen.targets is not None
    ratios = (seen.log_prob - rollout.log_prob).exp()
    assert float(ratios.max()) > 1.1
    assert rollout.terminated.any()
    assert rollout.truncated.any()
    assert not rollout.ended[-1].all()
    bounded = ratios.clamp(max=ratio_clip or float("inf"))
    expected = box_by_hand(rollout, seen.values, last, bounded, gamma=0.9, decay=0.7)
    torch.testing.assert_close(seen.weights, expected)
    torch.testing.assert_close(seen.targets - seen.values, expected)


def test_behaviour_follows_every_so_many_updates_and_what_it_did_is_kept() -> None:
    algorithm = make(OffPAC, behaviour_update_interval=2, replay_size=4, rollouts_per_update=2, learning_rate=0.1)
    assert isinstance(algorithm, OffPAC)
    same = []
    for _ in range(5):
        algorithm.collect()
        same.append(all(map(torch.equal, algorithm.behaviour.parameters(), algorithm.model.parameters())))
        algorithm.update()
    assert same == [True, False, True, False, True]
    assert len(algorithm.replay) == 4
    drawn = algorithm.replay.draw(3, torch.Generator().manual_seed(0))
    assert len({id(rollout) for rollout in drawn}) == 3
    assert len(algorithm.replay.draw(9, torch.Generator().manual_seed(0))) == 4


def test_a_learner_with_less_room_takes_back_the_latest_rollouts() -> None:
    large, small = (make(OffPAC, replay_size=size, rollouts_per_update=1, horizon=2) for size in (5, 2))
    assert isinstance(large, OffPAC)
    assert isinstance(small, OffPAC)
    totals = []
    for _ in range(5):
        one_update(large)
        totals.append(float(large.position.episode_returns.sum()))
    small.load_state_dict(large.state_dict())
    assert len(small.replay) == 2
    kept = small.replay.draw(2, torch.Generator())
    assert {float(one.next.episode_returns.sum()) for one in kept if one.next is not None} == set(totals[-2:])


def test_off_policy_learning_needs_whole_rollouts_with_log_probabilities() -> None:
    algorithm = make(OffPAC)
    assert isinstance(algorithm, OffPAC)
    rollout = sample(algorithm.behaviour, Walk(4), 4)
    with pytest.raises(InvalidInputError, match="not from pieces"):
        algorithm.off_policy_terms(rollout[:2])
    with pytest.raises(InvalidInputError, match="log-probabilities of the policy that acted"):
        algorithm.off_policy_terms(replace(rollout, log_prob=None))


# Episodes


@pytest.mark.parametrize("algorithm_class", [REINFORCE, REINFORCEWithBaseline])
def test_whole_episodes_are_played_and_no_books_are_left_open(algorithm_class: type[PolicyGradient]) -> None:
    algorithm = make(algorithm_class, Walk(6, length=5, stops=True), episodes_per_env=3, horizon=50)
    for _ in range(3):
        report = algorithm.collect()
        algorithm.update()
        assert sorted(episode.row for episode in report.episodes) == sorted(3 * list(range(6)))
        assert int(algorithm.position.episode_lengths.sum()) == 0
        assert float(algorithm.position.episode_returns.sum()) == 0.0
        assert algorithm.position.starts.all()


def test_the_longest_episode_is_cut_at_the_horizon() -> None:
    report = make(REINFORCE, Walk(2, length=50), horizon=7).collect()
    assert [episode.length for episode in report.episodes] == [7, 7]


# Policies of all kinds


@pytest.mark.parametrize("memory", ["lstm", "gru", "attention"])
@pytest.mark.parametrize("algorithm_class", ALGORITHMS)
def test_policies_with_memory_learn_from_the_probabilities_that_they_acted_with(
    algorithm_class: type[PolicyGradient], memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = {"replay_size": 1, "rollouts_per_update": 1, "behaviour_update_interval": 1}
    own = latest if algorithm_class is OffPAC else {}
    network = {**SMALL, "memory": memory, "window": 3}
    env = Walk(3, length=4, stops=True)
    algorithm = make(algorithm_class, env, network=network, horizon=6, gae_lambda=1.0, learning_rate=0.1, **own)
    for _ in range(3):  # From the second on, rollouts of A2C and Off-PAC begin in the middle of episodes.
        seen = Spy(algorithm, monkeypatch)
        metrics = one_update(algorithm)
        counted = slice(None) if seen.rollout.valid is None else seen.rollout.valid
        assert seen.rollout.log_prob is not None
        torch.testing.assert_close(seen.log_prob[counted], seen.rollout.log_prob[counted])
        assert metrics["train/gradient_norm"] > 0.0


@pytest.mark.parametrize("algorithm_class", ALGORITHMS)
def test_any_spaces_will_do(algorithm_class: type[PolicyGradient]) -> None:
    seen = spaces.Dict({"where": spaces.Box(-1.0, 1.0, (2,)), "what": spaces.Discrete(3)})
    done = spaces.Dict(
        {"push": spaces.Box(-2.0, 2.0, (2,)), "press": spaces.MultiBinary(2), "pick": spaces.Discrete(3)}
    )
    env = open_environments([AnySpaceEnv(seen, done) for _ in range(2)])
    algorithm = algorithm_class(
        env, make_config(algorithm_class.Config, {"network": SMALL, "seed": 0, "device": "cpu"})
    )
    before = weights(algorithm)
    assert one_update(algorithm)["train/gradient_norm"] > 0.0
    assert any(not torch.equal(before[name], after) for name, after in weights(algorithm).items())


def test_memory_learns_what_cannot_be_seen() -> None:
    network = {"memory": "gru", "memory_size": 16, "hidden_sizes": ()}
    algorithm = make(REINFORCEWithBaseline, Recall(128), network=network, learning_rate=0.02, gamma=1.0)
    report = algorithm.collect()
    for _ in range(40):
        algorithm.update()
        report = algorithm.collect()
    assert sum(episode.total_reward for episode in report.episodes) / 128 > 0.9


# Interruption


@pytest.mark.parametrize("memory", [None, "lstm"])
@pytest.mark.parametrize("algorithm_class", ALGORITHMS)
def test_an_interrupted_run_goes_on_bit_for_bit(
    algorithm_class: type[PolicyGradient], memory: str | None, tmp_path: Path
) -> None:
    parameters = {"network": {**SMALL, "memory": memory}, "horizon": 12, "normalize_rewards": "running"}
    if algorithm_class is OffPAC:
        parameters |= {"behaviour_update_interval": 3, "replay_size": 5}
    whole = make(algorithm_class, CartPole(3), **parameters)
    for _ in range(4):
        one_update(whole)
    written(whole, tmp_path / "half")
    env = CartPole(3)
    observations = env.load_state_dict(deepcopy(whole.environments.state_dict()))
    other = make(algorithm_class, env, **{**parameters, "seed": 99})
    other.load_state_dict(read_state(tmp_path / "half", "algorithm"))
    other.begin(observations, timesteps=whole._timesteps, target_timesteps=0, resumes=True)
    for _ in range(4):
        assert one_update(other) == one_update(whole)
    assert written(other, tmp_path / "other") == written(whole, tmp_path / "whole")


@pytest.mark.parametrize("algorithm_class", ALGORITHMS)
def test_an_agent_trains_and_is_saved_and_loaded(algorithm_class: type[PolicyGradient], tmp_path: Path) -> None:
    agent = NativeAgent(algorithm_class, {"network": SMALL, "seed": 0, "device": "cpu", "horizon": 20})
    agent.train(CartPole(2), 100, progress_bar=False)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    first, second = (each.evaluate(CartPole(2), 4, seed=1).returns for each in (agent, loaded))
    assert list(first) == list(second)
    assert isinstance(loaded, NativeAgent)
    loaded.train(CartPole(3), 100, progress_bar=False)


# Mistakes


@pytest.mark.parametrize(
    ("algorithm_class", "wrong", "message"),
    [
        (REINFORCE, {"value_coefficient": 0.5}, "REINFORCEWithBaseline"),
        (REINFORCE, {"gae_lambda": 0.9}, "A2C takes others"),
        (REINFORCE, {"resets_every": 2}, "leave resets_every at None"),
        (REINFORCE, {"episodes_per_env": 0}, "episodes_per_env of REINFORCE must be a whole number from 1, got 0"),
        (REINFORCEWithBaseline, {"gae_lambda": 0.9}, "REINFORCEWithBaseline learns from returns up to the end"),
        (A2C, {"gamma": 1.5}, "gamma of A2C must lie in"),
        (OffPAC, {"ratio_clip": 0.0}, "ratio_clip of OffPAC must lie in"),
        (OffPAC, {"replay_size": 2, "rollouts_per_update": 3}, "draw 3 rollouts, of which only 2"),
        (OffPAC, {"behaviour_update_interval": 1.5}, "behaviour_update_interval"),
        (A2C, {"standardize_advantages": "yes"}, "standardize_advantages"),
    ],
)
def test_hyper_parameters_that_make_no_sense(
    algorithm_class: type[PolicyGradient], wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        algorithm_class.Config(**wrong)


@pytest.mark.parametrize("algorithm_class", WITH_VALUES)
def test_a_model_without_values_is_refused_where_they_are_needed(algorithm_class: type[PolicyGradient]) -> None:
    algorithm = make(algorithm_class, network=None, model=Preferences)
    algorithm.collect()
    with pytest.raises(InvalidInputError, match="values"):
        algorithm.update()
