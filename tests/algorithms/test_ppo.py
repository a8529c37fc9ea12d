"""PPO does what its paper says, on what really happened; each fault of its forerunners has a test here."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.algorithms.good_weights import GoodWeights
from rl_framework.algorithms.parallel_gradients import ParallelGradients, sharing_copy
from rl_framework.algorithms.ppo import PPO
from rl_framework.algorithms.ppo_config import PPOConfig
from rl_framework.algorithms.ppo_loss import STATISTICS, explained_variance, normalized, standard_of
from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.data.rollout import Rollout
from rl_framework.envs.source import open_environments
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.envs.tensor_tasks.drive_to_origin import ContinuousDummyEnv, DiscreteDummyEnv
from rl_framework.envs.tensor_tasks.pendulum import Pendulum
from rl_framework.errors import (
    DeviceMemoryError,
    InvalidInputError,
    SpaceError,
    TrainingDivergedError,
    UnknownOptionError,
)
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.functional.policy_losses import approximate_kl, clipped_surrogate, value_errors
from rl_framework.nn.action_heads import ActionHead
from rl_framework.nn.model import Model, ModelOutput
from rl_framework.rollouts.scoring import score
from rl_framework.testing.environments import AnySpaceEnv

SMALL: dict[str, Any] = {"network": {"hidden_sizes": (16,)}, "seed": 0, "device": "cpu"}
PLAIN: dict[str, Any] = {"normalize_advantages": "none", "micro_batch_size": None, "max_gradient_norm": None}
MEMORIES = (None, "lstm", "gru", "attention")


def made(env: Any = None, **settings: Any) -> PPO:
    env = CartPole(8, max_episode_steps=20) if env is None else env
    return PPO(env, PPOConfig(**{"horizon": 16, **SMALL, **settings}))


def with_memory(memory: str | None, **settings: Any) -> PPO:
    network = {"hidden_sizes": (16,), "memory": memory, "memory_size": 8, "window": 4}
    return made(**{"network": network, "sequence_length": 8 if memory else None, **settings})


def collected(ppo: PPO) -> Rollout:
    ppo.collect()
    assert ppo._rollout is not None
    return ppo._rollout


def weights(ppo: PPO) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in ppo.model.parameters()])


def gradient(ppo: PPO) -> Tensor:
    return torch.cat([p.grad.flatten() for p in ppo.model.parameters() if p.grad is not None])


class TestIdentities:
    @pytest.mark.parametrize("memory", MEMORIES)
    def test_the_first_step_has_ratio_1(self, memory: str | None) -> None:
        ppo = with_memory(memory, epochs=1, minibatch_size=None)
        for _ in range(2):
            ppo.collect()
            metrics = ppo.update().metrics
            assert metrics["train/approximate_kl"] < 1e-6
            assert metrics["train/clip_fraction"] == 0.0

    @pytest.mark.parametrize("memory", MEMORIES)
    def test_the_first_gradient_is_that_of_the_policy_gradient(self, memory: str | None) -> None:
        ppo = with_memory(memory, value_coefficient=0.0, **PLAIN)
        data = ppo.with_targets(collected(ppo))
        scores = score(ppo.model, data)
        (-scores.log_prob * data.extras["advantages"]).mean().backward()  # type: ignore[no-untyped-call]
        plain = gradient(ppo)
        ppo._cut_gradients(data, ppo._weights(0.2, 0.0, data.n_transitions))
        for parameter, expected in zip(_policy_parameters(ppo), _split(plain, _policy_parameters(ppo)), strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad.flatten(), expected, atol=1e-6, rtol=1e-4)

    @pytest.mark.parametrize("memory", MEMORIES)
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"entropy_coefficient": 0.1, "normalize_advantages": "minibatch"},
            {"dual_clip": 1.05, "value_loss": "huber", "value_loss_cap": 0.4},
            {"clip_range_value": 0.01, "value_coefficient": 0.7},
        ],
    )
    def test_gradients_and_numbers_are_those_of_the_loss_as_it_is_written(
        self, memory: str | None, settings: dict[str, Any]
    ) -> None:
        ppo = with_memory(memory, clip_range=0.05, **{**PLAIN, **settings})
        data = ppo.with_targets(collected(ppo))
        with torch.no_grad():
            for parameter in ppo.model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        config, scores = ppo.config, score(ppo.model, data)
        assert data.log_prob is not None
        assert scores.values is not None
        standard = standard_of(data.extras["advantages"]) if config.normalize_advantages == "minibatch" else None
        advantages = data.extras["advantages"]
        objective = clipped_surrogate(
            scores.log_prob,
            data.log_prob,
            advantages if standard is None else normalized(advantages, standard),
            clip_range=0.05,
            dual_clip=config.dual_clip,
        ).mean()
        error = value_errors(
            scores.values,
            data.extras["returns"],
            kind=config.value_loss,  # type: ignore[arg-type]
            old_values=None if config.clip_range_value is None else data.values,
            clip_range=config.clip_range_value,
            cap=config.value_loss_cap,
        ).mean()
        coefficient = ppo.entropy_coefficient
        loss = config.value_coefficient * error - objective - coefficient * scores.entropy.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        plain = gradient(ppo)
        statistics, _ = ppo._cut_gradients(data, ppo._weights(0.05, coefficient, data.n_transitions))
        torch.testing.assert_close(gradient(ppo), plain, atol=1e-6, rtol=1e-4)
        found = dict(zip(STATISTICS, (statistics[:-1] / data.n_transitions).tolist(), strict=True))
        ratio = (scores.log_prob - data.log_prob).exp().detach()
        assert found == pytest.approx(
            {
                "objective": objective.item(),
                "value_loss": error.item(),
                "entropy": scores.entropy.mean().item(),
                "approximate_kl": approximate_kl(scores.log_prob, data.log_prob).mean().item(),
                "clip_fraction": ((ratio - 1.0).abs() > 0.05).float().mean().item(),
            },
            rel=1e-4,
            abs=1e-6,
        )
        assert found["clip_fraction"] > 0.0

    def test_the_reported_loss_is_the_sum_of_its_terms(self) -> None:
        ppo = made(entropy_coefficient=0.1, value_coefficient=0.7)
        ppo.collect()
        found = ppo.update().metrics
        terms = found["train/policy_loss"] + 0.7 * found["train/value_loss"] - 0.1 * found["train/entropy"]
        assert found["train/loss"] == pytest.approx(terms)

    @pytest.mark.parametrize("memory", MEMORIES)
    @pytest.mark.parametrize("n_parts", [2, 4])
    def test_added_up_gradients_give_the_update_of_one_large_batch(self, memory: str | None, n_parts: int) -> None:
        results = []
        for size in (None, 8 * 16 // n_parts):
            ppo = with_memory(memory, minibatch_size=None, micro_batch_size=size, epochs=3, learning_rate=1e-3)
            ppo.collect()
            ppo.update()
            results.append(weights(ppo))
        torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0.0)

    def test_a_full_batch_is_the_same_in_any_order(self) -> None:
        results = []
        for shuffle in (True, False):
            ppo = made(minibatch_size=None, shuffle=shuffle, learning_rate=1e-2)
            ppo.collect()
            ppo.update()
            results.append(weights(ppo))
        torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0.0)

    def test_threads_give_the_gradients_of_one(self) -> None:
        ppo = made(CartPole(64, max_episode_steps=20), minibatch_size=None)
        data = ppo.with_targets(collected(ppo))
        batch = next(data.minibatches(None))
        found = []
        for n_threads in (1, 3):
            ppo.model.zero_grad()
            gradients = ParallelGradients(ppo.model, n_threads)

            def find(model: Model, part: Rollout) -> Tensor:
                loss = score(model, part).log_prob.sum() + model.values(part.observations[0]).sum()
                loss.backward()  # type: ignore[no-untyped-call]
                return loss.detach().reshape(1)

            total = gradients.add_up(find, list(batch.parts(128)))
            found.append((total, gradient(ppo)))
        torch.testing.assert_close(found[0], found[1], atol=1e-3, rtol=1e-4)

    @pytest.mark.parametrize(("micro_batch_size", "expected"), [(16, 1), (None, 2)])
    def test_parts_have_the_cores_to_themselves(
        self, monkeypatch: pytest.MonkeyPatch, micro_batch_size: int | None, expected: int
    ) -> None:
        """Threads that torch woke just before go on looking for work, on cores that the parts need."""
        seen = []

        class Watched(GoodWeights):
            def __init__(self, *arguments: Any) -> None:
                seen.append(torch.get_num_threads())
                super().__init__(*arguments)

        monkeypatch.setattr("rl_framework.algorithms.on_policy.GoodWeights", Watched)
        monkeypatch.setattr("rl_framework.nn.threads.LARGE", 1)
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            ppo = made(minibatch_size=None, micro_batch_size=micro_batch_size)
            ppo.collect()
            ppo.update()
            assert seen == [expected]
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)

    @pytest.mark.parametrize("n_parts", [1, 2, 5, 6])
    def test_threads_say_the_same_of_parts_in_their_order(self, n_parts: int) -> None:
        ppo = made()
        parts = list(torch.randn(n_parts, 7, 4))
        threads, seen = ParallelGradients(ppo.model, 3), set()

        def values(model: Model, part: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            seen.add(id(model))
            return model.values(part)

        found = threads.each(values, parts)
        with torch.no_grad():
            torch.testing.assert_close(found, [ppo.model.values(part) for part in parts])
        assert len(seen) == min(3, n_parts)

    @pytest.mark.parametrize(("minibatch_size", "n_threads"), [(16, 3), (None, 1)])
    def test_values_found_on_threads_are_those_of_the_model(
        self, monkeypatch: pytest.MonkeyPatch, minibatch_size: int | None, n_threads: int
    ) -> None:
        """Where the update's operations are large enough for torch's threads, values have none of their own."""
        ppo = made(minibatch_size=minibatch_size, network={"hidden_sizes": (16,), "normalize_observations": True})
        monkeypatch.setattr("rl_framework.algorithms.ppo.LARGE", 16 * ppo.environments.n_envs * ppo.config.horizon)
        threads = ppo._gradients = ParallelGradients(ppo.model, 3)
        rollout = collected(ppo)
        assert rollout.values is not None
        with torch.no_grad():
            expected = ppo.model.values(rollout.observations.flatten(0, 1)).view(rollout.values.shape)
        torch.testing.assert_close(rollout.values, expected)
        assert len(threads._copies) == n_threads

    def test_copies_for_threads_share_parameters_and_statistics(self) -> None:
        ppo = made(network={"hidden_sizes": (4,), "normalize_observations": True})
        twin = sharing_copy(ppo.model)
        with torch.no_grad():
            for tensor in (*ppo.model.parameters(), *ppo.model.buffers()):
                tensor.add_(1)
        for own, others in zip(ppo.model.state_dict().values(), twin.state_dict().values(), strict=True):
            assert torch.equal(own, others)

    def test_random_layers_keep_to_one_thread(self) -> None:
        ppo = made()
        ppo.model.add_module("dropout", nn.Dropout())
        assert ParallelGradients(ppo.model, 4).n_threads == 1


class TestEpisodeEnds:
    def test_an_ending_bootstraps_nothing_and_a_time_limit_does(self) -> None:
        ppo = made(CartPole(8, max_episode_steps=12), horizon=64, gae_lambda=0.0, gamma=0.9)
        with torch.no_grad():
            for parameter in ppo.model.parameters():
                parameter.zero_()
            ppo.model.value_head.bias.fill_(100.0)  # type: ignore[operator,union-attr]
        data = ppo.with_targets(collected(ppo))
        returns, terminated, truncated = data.extras["returns"], data.terminated, data.truncated
        assert terminated.any()
        assert truncated.any()
        torch.testing.assert_close(returns[terminated], data.rewards[terminated])
        torch.testing.assert_close(returns[~terminated], data.rewards[~terminated] + 0.9 * 100.0)

    def test_environments_without_endings_are_reset_when_that_is_asked(self) -> None:
        ppo = made(DiscreteDummyEnv(4, max_episode_steps=None), resets_every=2)
        starts, episodes = [], []
        for _ in range(4):
            report = ppo.collect()
            assert ppo._rollout is not None
            starts.append(bool(ppo._rollout.starts[0].all()))
            episodes.append([episode.length for episode in report.episodes])
            ppo.update()
        assert starts == [True, False, True, False]
        assert episodes == [[], [], [32] * 4, []]


class TestValues:
    @pytest.mark.parametrize("normalize", ["none", "minibatch", "rollout"])
    def test_the_value_head_has_a_gradient_however_advantages_are_normalised(self, normalize: str) -> None:
        ppo = made(normalize_advantages=normalize, minibatch_size=None)
        before = [p.detach().clone() for p in ppo.model.value_head.parameters()]  # type: ignore[union-attr]
        ppo.collect()
        ppo.update()
        after = ppo.model.value_head.parameters()  # type: ignore[union-attr]
        assert all(not torch.equal(one, two) for one, two in zip(before, after, strict=True))

    def test_rewards_are_not_rescaled_in_place(self) -> None:
        ppo = made(normalize_rewards="running")
        rollout = collected(ppo)
        rewards = rollout.rewards.clone()
        ppo.update()
        assert torch.equal(rollout.rewards, rewards)

    def test_the_options_of_the_value_loss_make_a_difference(self) -> None:
        options: list[dict[str, Any]] = [
            {},
            {"value_loss": "huber"},
            {"value_loss": "huber", "value_loss_cap": 0.1},
            {"clip_range_value": 0.01},
        ]
        results = []
        for chosen in options:
            ppo = made(epochs=2, learning_rate=1e-2, **chosen)
            ppo.collect()
            ppo.update()
            results.append(weights(ppo))
        assert all(not torch.equal(one, two) for i, one in enumerate(results) for two in results[:i])

    def test_explained_variance(self) -> None:
        returns = torch.tensor([1.0, 2.0, 3.0])
        assert explained_variance(returns, returns) == 1.0
        assert explained_variance(torch.zeros(3), returns) == 0.0
        assert explained_variance(torch.zeros(3), torch.ones(3)) == 0.0

    def test_a_single_advantage_is_left_alone(self) -> None:
        assert standard_of(torch.tensor([3.0])) is None


class TestSchedules:
    def test_they_count_environment_steps_of_all_rows(self) -> None:
        env = CartPole(8)
        ppo = made(env, learning_rate={"kind": "linear", "initial": 1.0, "final": 0.0}, clip_range=0.2, epochs=1)
        ppo.begin(env.reset(0), timesteps=0, target_timesteps=8 * 16 * 4)
        rates = []
        for _ in range(4):
            ppo.collect()
            ppo.optimizer.param_groups[0]["params"] = []
            rates.append(ppo._set_learning_rate())
        assert rates == [0.75, 0.5, 0.25, 0.0]

    def test_evaluating_does_not_move_them(self) -> None:
        ppo = made()
        ppo.collect()
        before = ppo.progress_remaining, ppo.generator.get_state().tolist()
        evaluate_policy(ppo.policy, "CartPole-v1", 2, seed=0)
        assert (ppo.progress_remaining, ppo.generator.get_state().tolist()) == before


class TestWindows:
    def test_attention_sees_past_the_beginning_of_a_horizon(self) -> None:
        """The memory at the start of a second horizon holds what was seen in the first."""
        ppo = with_memory("attention", horizon=8, sequence_length=8)
        ppo.model.requires_grad_(False)
        ppo.collect()
        second = collected(ppo)
        goes_on = ~second.starts[0]
        assert goes_on.any()
        memory = ppo.model.initial_state(second.n_rows)
        seen = score(ppo.model, second).log_prob[0]
        forgetful = replace(second, states=map_tree(lambda leaf: leaf.unsqueeze(0), memory))
        unseen = score(ppo.model, forgetful).log_prob[0]
        assert not torch.allclose(seen[goes_on], unseen[goes_on], atol=1e-7)


class TestDevices:
    def test_the_device_that_is_asked_for_is_the_one_that_is_used(self) -> None:
        assert made(device="cpu").model.device.type == "cpu"
        assert made(device="auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, so asking for one is no mistake")
    def test_a_device_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="no device 'cuda"):
            made(device="cuda")

    def test_an_environment_on_another_device_is_refused(self) -> None:
        env = CartPole(2)
        env.device = torch.device("meta")
        with pytest.raises(InvalidInputError, match="meta"):
            made(env)


class TestTroubles:
    @pytest.mark.parametrize(("size", "horizon"), [(100, 16), (3, 16)])
    def test_minibatches_that_do_not_divide_are_refused_before_any_step(self, size: int, horizon: int) -> None:
        ppo = made(horizon=horizon, minibatch_size=size)
        with pytest.raises(InvalidInputError, match="128 transitions"):
            ppo.collect()
        assert ppo._position is None

    def test_sequences_that_do_not_divide_the_horizon_are_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="horizon 16 does not divide into sequences of 5"):
            PPOConfig(horizon=16, sequence_length=5)

    def test_minibatches_hold_whole_sequences(self) -> None:
        ppo = with_memory("gru", minibatch_size=4, sequence_length=8)
        with pytest.raises(InvalidInputError, match="sequences of 8"):
            ppo.collect()

    def test_a_spoilt_update_is_undone_and_named(self) -> None:
        ppo = made(learning_rate=1e3, epochs=1)
        ppo.collect()
        ppo.update()
        good = weights(ppo)
        ppo.collect()
        assert ppo._rollout is not None
        ppo._rollout.rewards[3, 2] = float("nan")
        message = r"train/loss became nan in update 2.*update 1 were kept"
        with pytest.raises(TrainingDivergedError, match=message) as info:
            ppo.update()
        assert (info.value.statistic, info.value.update) == ("train/loss", 2)
        assert torch.equal(weights(ppo), good)
        ppo.collect()
        ppo.update()
        assert ppo.updates == 2

    def test_a_spoilt_first_update_leaves_a_fresh_optimiser(self) -> None:
        ppo = made()
        ppo.collect()
        good = weights(ppo)
        assert ppo._rollout is not None
        ppo._rollout.rewards[:] = float("inf")
        with pytest.raises(TrainingDivergedError):
            ppo.update()
        assert torch.equal(weights(ppo), good)
        assert not ppo.optimizer.state

    def test_memory_that_does_not_suffice_says_what_to_lower(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ppo = made()
        ppo.collect()

        def fail(*_: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

        monkeypatch.setattr("rl_framework.algorithms.ppo.score", fail)
        with pytest.raises(DeviceMemoryError, match="micro_batch_size"):
            ppo.update()

    def test_other_errors_pass_through(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ppo = made()
        ppo.collect()

        def fail(*_: Any) -> Any:
            raise RuntimeError("a bug of the user's model")

        monkeypatch.setattr("rl_framework.algorithms.ppo.score", fail)
        with pytest.raises(RuntimeError, match="a bug"):
            ppo.update()

    def test_updating_twice_is_refused(self) -> None:
        ppo = made()
        ppo.collect()
        ppo.update()
        with pytest.raises(InvalidInputError, match=r"collect\(\)"):
            ppo.update()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("horizon", 0),
            ("epochs", 0),
            ("gamma", 1.1),
            ("gae_lambda", -0.1),
            ("dual_clip", 0.5),
            ("minibatch_size", 0),
            ("micro_batch_size", "some"),
            ("target_kl", 0.0),
            ("value_coefficient", float("nan")),
            ("max_gradient_norm", 0.0),
            ("learning_rate", -1.0),
            ("clip_range", -0.1),
            ("seed", -1),
            ("model", "PPO"),
            ("model_parameters", {"n": 1}),
            ("resets_every", 0),
            ("network", 3),
        ],
    )
    def test_values_out_of_range_are_refused(self, name: str, value: Any) -> None:
        with pytest.raises(InvalidInputError, match=name if name != "network" else "network"):
            PPOConfig(**{name: value})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("normalize_advantages", "yes"),
            ("normalize_rewards", "always"),
            ("value_loss", "absolute"),
            ("optimizer", "Adamm"),
            ("network", {"hiden_sizes": (3,)}),
            ("network", {"memory": "rnn"}),
        ],
    )
    def test_unknown_names_are_refused(self, name: str, value: Any) -> None:
        with pytest.raises(UnknownOptionError):
            PPOConfig(**{name: value})

    def test_parameters_that_an_optimiser_does_not_take_are_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="momentumm"):
            made(optimizer="SGD", optimizer_parameters={"momentumm": 0.9})


class OwnModel(Model):
    """A model as a user would write it: one time step, a further quantity, and a memory of its own."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], width: int = 8) -> None:
        super().__init__(observation_space, action_space)
        self.cell = nn.GRUCell(4, width)
        self.head = ActionHead(width, action_space)
        self.value = nn.Linear(width, 1)

    def initial_state(self, n_rows: int) -> Tree:
        return torch.zeros(n_rows, self.cell.hidden_size)

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        hidden = self.cell(observations, state)
        distribution = self.head.distribution(self.head(hidden), masks)
        return ModelOutput(distribution, self.value(hidden).squeeze(1), hidden, {"hidden": hidden})


class WithoutValues(OwnModel):
    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        output = super().step(observations, state, masks)
        return ModelOutput(output.distribution, None, output.state)


class ForOtherActions(OwnModel):
    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        super().__init__(observation_space, action_space)
        self.head = ActionHead(8, spaces.MultiDiscrete([2, 3]))


class TestModels:
    def test_a_model_of_ones_own_with_memory_learns(self) -> None:
        ppo = made(network=None, model=OwnModel, model_parameters={"width": 12}, sequence_length=8, learning_rate=1e-2)
        before = weights(ppo)
        rollout = collected(ppo)
        assert rollout.extras["hidden"].shape == (16, 8, 12)
        assert ppo.update().metrics["train/approximate_kl"] > 0.0
        assert not torch.equal(before, weights(ppo))

    def test_a_model_without_values_is_refused(self) -> None:
        ppo = made(network=None, model=WithoutValues)
        with pytest.raises(SpaceError, match="gives no values"):
            ppo.collect()

    def test_outputs_that_do_not_fit_the_actions_are_refused(self) -> None:
        with pytest.raises(SpaceError, match="ForOtherActions"):
            made(network=None, model=ForOtherActions).collect()

    @pytest.mark.parametrize(
        "spaces_",
        [
            (spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Discrete(4)}), spaces.MultiDiscrete([2, 3])),
            (spaces.Box(0, 255, (12, 12, 1), np.uint8), spaces.MultiBinary(3)),
            (spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.MultiBinary(2))), spaces.Box(-2.0, 3.0, (2, 2))),
            (
                spaces.Discrete(5),
                spaces.Dict({"move": spaces.Discrete(3), "force": spaces.Box(-1, 1, (2,))}),
            ),
        ],
        ids=["dict", "picture", "tuple", "composite actions"],
    )
    @pytest.mark.parametrize("memory", [None, "lstm"])
    def test_any_spaces(self, spaces_: tuple[Any, Any], memory: str | None) -> None:
        env = open_environments([AnySpaceEnv(*spaces_) for _ in range(2)])
        network = {"hidden_sizes": (8,), "memory": memory, "memory_size": 8, "image_features": 8}
        ppo = made(env, network=network, normalize_rewards="running")
        for _ in range(2):
            ppo.collect()
            assert all(np.isfinite(value) for value in ppo.update().metrics.values())

    def test_squashed_actions(self) -> None:
        ppo = made(Pendulum(4), network={"hidden_sizes": (8,), "box_distribution": "squashed_normal"})
        rollout = collected(ppo)
        assert float(rollout.actions.abs().max()) <= 1.0
        ppo.update()

    def test_unbounded_actions(self) -> None:
        ppo = made(ContinuousDummyEnv(4, max_episode_steps=16))
        ppo.collect()
        assert np.isfinite(ppo.update().metrics["train/loss"])


class TestOptions:
    def test_the_epochs_end_where_the_policy_has_moved_far_enough(self) -> None:
        ppo = made(target_kl=1e-4, learning_rate=1e-2, epochs=20)
        ppo.collect()
        metrics = ppo.update().metrics
        assert metrics["train/optimizer_steps"] < 20 * 4
        free = made(learning_rate=1e-2, epochs=20)
        free.collect()
        assert free.update().metrics["train/optimizer_steps"] == 20 * 4

    def test_an_entropy_bonus_raises_entropy(self) -> None:
        ppo = made(entropy_coefficient=10.0, learning_rate=1e-2, value_coefficient=0.0, epochs=10)
        with torch.no_grad():
            ppo.model.head.linear.bias.copy_(torch.tensor([2.0, -2.0]))  # type: ignore[union-attr,operator]
        ppo.collect()
        first = ppo.update().metrics["train/entropy"]
        ppo.collect()
        assert ppo.update().metrics["train/entropy"] > first

    @pytest.mark.parametrize("optimizer", ["SGD", "RMSprop", "AdamW", torch.optim.Adagrad])
    def test_any_optimiser(self, optimizer: Any) -> None:
        ppo = made(optimizer=optimizer)
        before = weights(ppo)
        ppo.collect()
        ppo.update()
        assert not torch.equal(before, weights(ppo))

    def test_mixed_precision_learns_nearly_the_same(self) -> None:
        results = []
        for mixed in (False, True):
            ppo = made(mixed_precision=mixed, minibatch_size=None, epochs=1, learning_rate=1e-3)
            start = weights(ppo)
            ppo.collect()
            ppo.update()
            results.append(weights(ppo) - start)
        assert torch.nn.functional.cosine_similarity(results[0], results[1], dim=0) > 0.9

    def test_observations_are_normalised_by_what_was_seen_before(self) -> None:
        network = {"hidden_sizes": (16,), "normalize_observations": True}
        ppo = made(DiscreteDummyEnv(8, max_episode_steps=16), network=network, epochs=1, minibatch_size=None)
        for _ in range(3):
            ppo.collect()
            assert ppo.update().metrics["train/approximate_kl"] < 1e-6
        statistics = ppo.model.encoder.parts[0].normalization  # type: ignore[union-attr,index]
        assert statistics.count == 3 * 8 * 16
        assert statistics.variance > 100.0

    def test_blocks_that_stay_in_the_cache_are_smaller_for_wider_networks(self) -> None:
        narrow, wide = made(), made(network={"hidden_sizes": (1024,)})
        assert narrow.model.preferred_rows() > wide.model.preferred_rows()
        assert with_memory("lstm").model.preferred_rows(4) > with_memory("lstm").model.preferred_rows(16)


class TestContinuation:
    @pytest.mark.parametrize("memory", MEMORIES)
    def test_state_and_environments_give_the_same_run(self, memory: str | None) -> None:
        settings: dict[str, Any] = {
            "normalize_rewards": "running",
            "network": {
                "hidden_sizes": (16,),
                "memory": memory,
                "memory_size": 8,
                "normalize_observations": True,
            },
            "sequence_length": 8,
        }
        env = CartPole(8, max_episode_steps=20)
        ppo = made(env, **settings)
        ppo.begin(env.reset(1), timesteps=0, target_timesteps=10_000)
        ppo.collect()
        ppo.update()
        saved = copy.deepcopy((ppo.state_dict(), env.state_dict()))
        for _ in range(2):
            ppo.collect()
            ppo.update()
        other_env = CartPole(8, max_episode_steps=20)
        other = made(other_env, **settings)
        other.load_state_dict(saved[0])
        other.begin(other_env.load_state_dict(saved[1]), timesteps=128, target_timesteps=10_000, resumes=True)
        for _ in range(2):
            other.collect()
            other.update()
        assert torch.equal(weights(ppo), weights(other))

    def test_a_fresh_run_forgets_memory_and_another_number_of_rows_is_fine(self) -> None:
        ppo = with_memory("lstm")
        ppo.collect()
        ppo.update()
        env = CartPole(3)
        other = with_memory("lstm", env=env)
        other.load_state_dict(ppo.state_dict())
        other.begin(env.reset(0), timesteps=0, target_timesteps=1000)
        assert all(not leaf.any() for leaf in leaves(other.position.state))
        assert other.position.starts.all()
        other.collect()
        other.update()


def _policy_parameters(ppo: PPO) -> list[nn.Parameter]:
    named = ppo.model.named_parameters()
    return [parameter for name, parameter in named if not name.startswith("value_")]


def _split(flat: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    return list(torch.split(flat, [parameter.numel() for parameter in parameters]))
