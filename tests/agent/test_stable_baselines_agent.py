"""What a Stable-Baselines3 agent keeps between calls, and what it refuses."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.agent.reinforcement.stable_baselines.normalization import Normalization
from rl_framework.agent.reinforcement.stable_baselines.parameters import decode, encode
from rl_framework.errors import (
    EnvironmentFailure,
    InvalidInputError,
    InvalidNumberError,
    SpaceError,
    UnknownOptionError,
    UnsafeArchiveError,
)
from rl_framework.functional.schedules import LinearSchedule
from rl_framework.testing.environments import (
    AnySpaceEnv,
    BitFlipping,
    CountingEnv,
    InvalidNumberEnv,
    MaskedCorridor,
    RaisingEnv,
    RecallEnv,
)
from tests.agent.cases import HER, REPLAY, ROLLOUT, SMALL, cart_pole, pendulum, several

QUIET: dict[str, Any] = {"progress_bar": False}


def trained(algorithm_class: Any = sb3.PPO, env: str = "CartPole-v1", steps: int = 64, **parameters: Any) -> Any:
    agent = StableBaselinesAgent(algorithm_class, parameters or {"n_steps": 16, "batch_size": 16, "seed": 0})
    agent.train(env, steps, **QUIET)
    return agent


class TestSecondTraining:
    def test_keeps_the_replay_buffer(self) -> None:
        agent = StableBaselinesAgent(sb3.DQN, {**REPLAY, "train_freq": 1})
        agent.train("CartPole-v1", 100, **QUIET)
        before = agent.model.replay_buffer.observations[:100].copy()  # type: ignore[attr-defined]  # DQN has one
        agent.train("CartPole-v1", 50, **QUIET)
        buffer = agent.model.replay_buffer  # type: ignore[attr-defined]  # as above
        assert buffer.pos == 150
        assert np.array_equal(buffer.observations[:100], before)

    @pytest.mark.parametrize(("n_before", "n_after"), [(1, 3), (3, 1), (2, 4)])
    def test_keeps_the_replay_buffer_with_another_number_of_environments(self, n_before: int, n_after: int) -> None:
        agent = StableBaselinesAgent(sb3.DQN, {**REPLAY, "learning_starts": 1000, "train_freq": 1})
        agent.train("CartPole-v1", 120, n_envs=n_before, **QUIET)
        buffer = agent.model.replay_buffer  # type: ignore[attr-defined]  # DQN has one
        before = sorted(map(tuple, buffer.observations[: buffer.pos].reshape(-1, 4).tolist()))
        agent.train("CartPole-v1", n_after, n_envs=n_after, **QUIET)
        buffer = agent.model.replay_buffer  # type: ignore[attr-defined]  # as above
        assert buffer.observations.shape[1] == n_after
        after = sorted(map(tuple, buffer.observations[: buffer.pos - 1].reshape(-1, 4).tolist()))
        assert len(before) == len(after) == 120
        assert before == after

    def test_hindsight_episodes_survive_another_number_of_environments(self) -> None:
        agent = StableBaselinesAgent(sb3.DQN, HER)
        agent.train([BitFlipping(4) for _ in range(2)], 120, **QUIET)
        agent.train([BitFlipping(4) for _ in range(3)], 60, **QUIET)
        buffer = agent.model.replay_buffer  # type: ignore[attr-defined]  # DQN has one
        for row in range(3):
            ends = np.flatnonzero(buffer.dones[: buffer.pos, row])
            starts = buffer.ep_start[: buffer.pos, row]
            lengths = buffer.ep_length[: buffer.pos, row]
            for index in range(int(ends[-1]) + 1):
                if lengths[index]:
                    assert starts[index] + lengths[index] - 1 in ends
                    assert starts[index] <= index < starts[index] + lengths[index]

    def test_goes_on_counting_steps_and_updates(self) -> None:
        agent = trained(steps=64)
        updates = agent.model._n_updates
        agent.train("CartPole-v1", 64, **QUIET)
        assert agent.timesteps == 128
        assert agent.model._n_updates == 2 * updates

    def test_keeps_normalisation_statistics(self) -> None:
        agent = StableBaselinesAgent(sb3.PPO, ROLLOUT, normalization=True)
        agent.train("Pendulum-v1", 64, **QUIET)
        first = agent.model.get_vec_normalize_env()
        assert first is not None
        count = first.obs_rms.count  # type: ignore[attr-defined]  # one record for a Box
        agent.train("Pendulum-v1", 64, n_envs=2, **QUIET)
        second = agent.model.get_vec_normalize_env()
        assert second is not None
        assert second.obs_rms.count > count + 60  # type: ignore[attr-defined]  # as above

    def test_continues_after_a_failed_run(self) -> None:
        agent = trained(n_steps=8, batch_size=8, steps=16)
        weights = {name: tensor.clone() for name, tensor in agent.model.policy.state_dict().items()}
        failing = gym.wrappers.TransformReward(gym.make("CartPole-v1"), lambda reward: float("nan"))
        with pytest.raises(InvalidNumberError):
            agent.train(failing, 16, **QUIET)
        assert all(torch.equal(tensor, weights[name]) for name, tensor in agent.model.policy.state_dict().items())
        assert agent.train("CartPole-v1", 16, **QUIET).total_timesteps == 32


class TestLoading:
    def test_exploration_schedule_is_saved(self, tmp_path: Path) -> None:
        agent = StableBaselinesAgent(sb3.DQN, {**REPLAY, "exploration_fraction": 0.9})
        agent.train("CartPole-v1", 100, **QUIET)
        agent.save(tmp_path / "agent")
        loaded = load_agent(tmp_path / "agent")
        assert isinstance(loaded, StableBaselinesAgent)
        assert agent.model.exploration_rate < 1.0  # type: ignore[attr-defined]  # DQN explores
        assert loaded.model.exploration_rate == agent.model.exploration_rate  # type: ignore[attr-defined]  # as above

    def test_parameters_change_on_loading(self, tmp_path: Path) -> None:
        agent = trained()
        agent.save(tmp_path / "agent")
        loaded = StableBaselinesAgent.load(tmp_path / "agent", algorithm_parameters={"learning_rate": 1e-5})
        loaded.train("CartPole-v1", 16, **QUIET)
        assert loaded.model.policy.optimizer.param_groups[0]["lr"] == 1e-5
        assert loaded.algorithm_parameters["n_steps"] == 16

    def test_normalization_statistics_travel(self, tmp_path: Path) -> None:
        agent = StableBaselinesAgent(sb3.PPO, ROLLOUT, normalization=Normalization(clip_observations=3.0))
        agent.train("Pendulum-v1", 64, **QUIET)
        agent.save(tmp_path / "agent")
        loaded = load_agent(tmp_path / "agent")
        assert isinstance(loaded, StableBaselinesAgent)
        assert loaded.normalization == agent.normalization
        observation = np.array([1.0, 0.0, 8.0], np.float32)
        assert np.array_equal(loaded.choose_action(observation, True), agent.choose_action(observation, True))

    def test_an_agent_with_a_lambda_is_saved_and_acts(self, tmp_path: Path) -> None:
        agent = trained(learning_rate=lambda progress: 1e-3 * progress, n_steps=16, batch_size=16)
        agent.save(tmp_path / "agent")
        loaded = load_agent(tmp_path / "agent")
        assert isinstance(loaded, StableBaselinesAgent)
        observation = np.zeros(4, np.float32)
        assert loaded.choose_action(observation, True) == agent.choose_action(observation, True)
        with pytest.raises(InvalidInputError, match="learning_rate"):
            loaded.train("CartPole-v1", 16, **QUIET)
        again = StableBaselinesAgent.load(tmp_path / "agent", algorithm_parameters={"learning_rate": 1e-3})
        again.train("CartPole-v1", 16, **QUIET)

    def test_classes_outside_the_allow_list_need_trust(self, tmp_path: Path) -> None:
        agent = trained(policy_kwargs={"activation_fn": OwnActivation, **SMALL}, n_steps=16, batch_size=16)
        agent.save(tmp_path / "agent")
        with pytest.raises(UnsafeArchiveError, match="trust"):
            load_agent(tmp_path / "agent")
        assert load_agent(tmp_path / "agent", trust=[__name__]).is_trained

    def test_a_misspelt_change_is_refused(self, tmp_path: Path) -> None:
        trained().save(tmp_path / "agent")
        with pytest.raises(UnknownOptionError, match="algorithm_parameters"):
            load_agent(tmp_path / "agent", algorithm_parameter={"gamma": 0.9})

    def test_loading_leaves_the_random_generators_alone(self, tmp_path: Path) -> None:
        trained().save(tmp_path / "agent")
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        load_agent(tmp_path / "agent")
        assert torch.equal(torch.rand(3), expected)


class OwnActivation(torch.nn.Tanh):
    """A class that only this test module knows."""


class TestEvaluation:
    def test_recurrent_state_is_carried(self) -> None:
        """Stateless play answers at random; with its memory the trained policy recalls the cue."""
        agent = StableBaselinesAgent(
            sb3_contrib.RecurrentPPO,
            {
                "n_steps": 64,
                "batch_size": 128,
                "n_epochs": 10,
                "learning_rate": 3e-3,
                "policy_kwargs": {"lstm_hidden_size": 16, "net_arch": [16]},
                "seed": 0,
            },
        )
        agent.train([RecallEnv(2) for _ in range(8)], 12_000, **QUIET)
        with_memory = agent.evaluate(RecallEnv(2), 64, deterministic=True, seed=0, n_envs=8)
        assert with_memory.mean == pytest.approx(stateful_return(agent, 64), abs=1e-9)
        assert with_memory.mean > 0.9

    def test_memoryless_use_of_memory_warns(self) -> None:
        agent = StableBaselinesAgent(sb3_contrib.RecurrentPPO, {**ROLLOUT, "policy_kwargs": {"lstm_hidden_size": 8}})
        agent.train([RecallEnv()], 32, **QUIET)
        with pytest.warns(UserWarning, match="memory"):
            agent.choose_action(np.zeros(2, np.float32))

    def test_masks_are_used(self) -> None:
        """The corridor raises on forbidden actions, which an unmasked random policy takes in most steps."""
        agent = StableBaselinesAgent(sb3_contrib.MaskablePPO, ROLLOUT)
        agent.train(several(MaskedCorridor)(), 64, **QUIET)
        assert len(agent.evaluate(MaskedCorridor(), 20, seed=0).returns) == 20

    def test_an_unmasked_algorithm_says_that_it_ignores_masks(self, caplog: pytest.LogCaptureFixture) -> None:
        agent = StableBaselinesAgent(sb3.PPO, ROLLOUT)
        with caplog.at_level(logging.WARNING), pytest.raises(EnvironmentFailure):
            agent.train([MaskedCorridor()], 64, **QUIET)
        assert "MaskablePPO" in caplog.text

    def test_an_environment_that_raises_gives_no_number(self) -> None:
        agent = StableBaselinesAgent(sb3.PPO, {"n_steps": 8, "batch_size": 8})
        agent.train([CountingEnv()], 16, **QUIET)
        with pytest.raises(EnvironmentFailure, match="deliberate"):
            agent.evaluate(RaisingEnv(after=3), 20)
        with pytest.raises(InvalidNumberError):
            agent.evaluate(InvalidNumberEnv(after=3), 20)

    def test_other_spaces_are_refused(self) -> None:
        with pytest.raises(SpaceError, match="observation"):
            trained().evaluate("Pendulum-v1", 2)

    def test_epsilon_greedy_acts_row_by_row(self) -> None:
        agent = StableBaselinesAgent(sb3.DQN, {**REPLAY, "exploration_final_eps": 0.5, "exploration_initial_eps": 0.5})
        agent.train("CartPole-v1", 60, **QUIET)
        batch = np.zeros((400, 4), np.float32)
        greedy = agent.choose_action(batch, True)
        assert len(set(greedy.tolist())) == 1
        share = np.mean(agent.choose_action(batch, False) != greedy)
        assert 0.15 < share < 0.35  # half of the rows explore, half of those hit the other action


def stateful_return(agent: StableBaselinesAgent, n_episodes: int) -> float:
    """Mean return of the same episodes, played one by one with the library's own `predict`."""
    from rl_framework.core.seeding import derive_seeds

    total = 0.0
    for seed in derive_seeds(0, n_episodes):
        env = RecallEnv(2)
        observation, _ = env.reset(seed=seed)
        state, start, done = None, np.ones(1, dtype=bool), False
        while not done:
            action, state = agent.model.predict(observation[None], state, start, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action[0])
            total += float(reward)
            start, done = np.zeros(1, dtype=bool), terminated or truncated
    return total / n_episodes


class TestSpaces:
    @pytest.mark.parametrize("start", [0, 3, -1])
    def test_discrete_actions_may_start_anywhere(self, start: int) -> None:
        env = AnySpaceEnv(spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3, start=start))
        agent = StableBaselinesAgent(sb3.DQN, {**REPLAY, "learning_starts": 5})
        agent.train(env, 40, **QUIET)
        assert env.action_space.contains(agent.choose_action(env.observation_space.sample()))

    @pytest.mark.parametrize(
        "space",
        [
            spaces.Discrete(4, start=2),
            spaces.MultiDiscrete([3, 4], start=[1, -2]),
            spaces.Dict({"a": spaces.Discrete(3, start=-1), "b": spaces.Box(0, 1, (2,), np.float32)}),
        ],
    )
    def test_observations_may_count_from_anywhere(self, space: spaces.Space[Any], tmp_path: Path) -> None:
        agent = StableBaselinesAgent(sb3.PPO, {"n_steps": 16, "batch_size": 16})
        actions = spaces.MultiDiscrete([2, 3], start=[5, 6])
        agent.train(AnySpaceEnv(space, actions), 32, **QUIET)
        assert len(agent.evaluate(AnySpaceEnv(space, actions), 3).returns) == 3
        assert agent.export_onnx(tmp_path / "policy.onnx").exists()

    def test_binary_actions_are_whole_numbers(self) -> None:
        env = AnySpaceEnv(spaces.Box(-1, 1, (2,), np.float32), spaces.MultiBinary(3))
        agent = StableBaselinesAgent(sb3.PPO, {"n_steps": 16, "batch_size": 16})
        agent.train(env, 32, **QUIET)
        assert len(agent.evaluate(env, 3).returns) == 3

    def test_nested_observations_are_flattened(self, tmp_path: Path) -> None:
        space = spaces.Dict(
            {
                "camera": spaces.Dict({"left": spaces.Box(0, 1, (3,), np.float32), "on": spaces.Discrete(2)}),
                "body": spaces.Tuple([spaces.Box(-1, 1, (2,), np.float32), spaces.MultiBinary(3)]),
            }
        )
        agent = StableBaselinesAgent(sb3.PPO, {"n_steps": 8, "batch_size": 8})
        agent.train(AnySpaceEnv(space, spaces.MultiDiscrete([2, 3])), 16, **QUIET)
        agent.save(tmp_path / "agent")
        observation = space.sample()
        assert np.array_equal(
            load_agent(tmp_path / "agent").choose_action(observation, True), agent.choose_action(observation, True)
        )

    def test_one_observation_and_a_batch(self) -> None:
        agent = trained()
        one, many = agent.choose_action(np.zeros(4, np.float32)), agent.choose_action(np.zeros((5, 4), np.float32))
        assert np.shape(one) == ()
        assert np.shape(many) == (5,)
        with pytest.raises(SpaceError, match="shape"):
            agent.choose_action(np.zeros(3, np.float32))


class TestInput:
    def test_misspelt_parameter(self) -> None:
        with pytest.raises(UnknownOptionError, match="Did you mean 'learning_rate'"):
            StableBaselinesAgent(sb3.PPO, {"learning_rat": 1e-3})

    def test_environment_as_parameter(self) -> None:
        with pytest.raises(InvalidInputError, match="train"):
            StableBaselinesAgent(sb3.PPO, {"env": "CartPole-v1"})

    def test_misspelt_keyword(self) -> None:
        with pytest.raises(TypeError, match="total_timestep"):
            trained().train("CartPole-v1", total_timestep=5)

    @pytest.mark.parametrize("algorithm_class", ["PPO", dict, sb3.PPO.policy_aliases["MlpPolicy"]])
    def test_not_an_algorithm(self, algorithm_class: Any) -> None:
        with pytest.raises(InvalidInputError, match="algorithm class"):
            StableBaselinesAgent(algorithm_class)

    @pytest.mark.parametrize("total_timesteps", [0, -5, 1.5, True])
    def test_steps_must_be_a_positive_whole_number(self, total_timesteps: Any) -> None:
        with pytest.raises(InvalidInputError, match="total_timesteps"):
            StableBaselinesAgent(sb3.PPO).train("CartPole-v1", total_timesteps)

    @pytest.mark.parametrize(
        ("algorithm_class", "env", "word"), [(sb3.SAC, cart_pole, "Discrete"), (sb3.DQN, pendulum, "Box")]
    )
    def test_algorithm_that_does_not_fit_the_actions(self, algorithm_class: Any, env: Any, word: str) -> None:
        with pytest.raises(SpaceError, match=word):
            StableBaselinesAgent(algorithm_class).train(env(), 10)

    def test_dict_actions(self) -> None:
        env = AnySpaceEnv(spaces.Box(-1, 1, (2,), np.float32), spaces.Dict({"a": spaces.Discrete(2)}))
        with pytest.raises(SpaceError, match="Dict actions"):
            StableBaselinesAgent(sb3.PPO).train(env, 10)

    def test_masks_are_needed(self) -> None:
        with pytest.raises(InvalidInputError, match="action_masks"):
            StableBaselinesAgent(sb3_contrib.MaskablePPO).train("CartPole-v1", 10)

    def test_refused_value(self) -> None:
        with pytest.raises(InvalidInputError, match="PPO cannot be built"):
            StableBaselinesAgent(sb3.PPO, {"policy": "NoSuchPolicy"}).train("CartPole-v1", 10)

    def test_other_spaces_than_before(self) -> None:
        with pytest.raises(SpaceError, match="observation space"):
            trained().train("Acrobot-v1", 10)

    def test_environment_that_raises(self) -> None:
        with pytest.raises(EnvironmentFailure, match="step") as caught:
            StableBaselinesAgent(sb3.PPO, {"n_steps": 16, "batch_size": 16}).train([RaisingEnv(after=5)], 32, **QUIET)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


class TestSources:
    def test_stable_baselines_vec_env(self) -> None:
        venv = DummyVecEnv([cart_pole, cart_pole])
        agent = StableBaselinesAgent(sb3.PPO, {"n_steps": 16, "batch_size": 16})
        assert agent.train(venv, 64, **QUIET).taken_timesteps == 64

    def test_normalisation_is_the_agents_concern(self) -> None:
        agent = StableBaselinesAgent(sb3.PPO, {"n_steps": 16, "batch_size": 16})
        with pytest.raises(InvalidInputError, match="normalization="):
            agent.train(VecNormalize(DummyVecEnv([cart_pole])), 64, **QUIET)

    def test_gymnasium_vector_env(self) -> None:
        venv = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
        agent = StableBaselinesAgent(sb3.PPO, {"n_steps": 16, "batch_size": 16})
        assert agent.train(venv, 64, **QUIET).taken_timesteps == 64
        venv.close()

    def test_subprocesses(self) -> None:
        agent = StableBaselinesAgent(sb3.PPO, {"n_steps": 16, "batch_size": 16, "seed": 3})
        agent.train("CartPole-v1", 64, n_envs=2, vectorization="subprocess", **QUIET)
        here = StableBaselinesAgent(sb3.PPO, {"n_steps": 16, "batch_size": 16, "seed": 3})
        here.train("CartPole-v1", 64, n_envs=2, vectorization="serial", **QUIET)
        for name, tensor in agent.model.policy.state_dict().items():
            assert torch.equal(tensor, here.model.policy.state_dict()[name])


class TestParameters:
    @pytest.mark.parametrize(
        "value",
        [
            None,
            3,
            0.5,
            "auto",
            (1, "episode"),
            [64, {"pi": [32]}],
            {"activation_fn": torch.nn.ReLU, "optimizer_class": torch.optim.AdamW},
            LinearSchedule(1e-3, 1e-5),
        ],
    )
    def test_round_trip(self, value: Any) -> None:
        assert decode(encode(value)) == value

    def test_functions_need_trust(self) -> None:
        data = {"features_extractor_class": {"@reference": "gymnasium.envs.registration:make"}}
        with pytest.raises(UnsafeArchiveError, match="function"):
            decode(data)
        assert decode(data, trust=["gymnasium.envs.registration"])["features_extractor_class"] is gym.make

    def test_noise_round_trip(self) -> None:
        noise = sb3.common.noise.NormalActionNoise(np.zeros(2), np.full(2, 0.3))
        again = decode(encode({"action_noise": noise}))["action_noise"]
        assert isinstance(again, sb3.common.noise.NormalActionNoise)
        assert np.array_equal(again._sigma, noise._sigma)

    def test_a_schedule_trains_and_loads(self, tmp_path: Path) -> None:
        agent = trained(learning_rate=LinearSchedule(1e-3, 0.0), n_steps=16, batch_size=16)
        agent.save(tmp_path / "agent")
        loaded = load_agent(tmp_path / "agent")
        assert isinstance(loaded, StableBaselinesAgent)
        assert loaded.algorithm_parameters["learning_rate"] == LinearSchedule(1e-3, 0.0)

    def test_parameters_of_the_caller_are_not_written_into(self) -> None:
        own: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}, "learning_starts": 5}
        StableBaselinesAgent(sb3.SAC, own).train("Pendulum-v1", 10, **QUIET)
        assert own == {"policy_kwargs": {"net_arch": [8]}, "learning_starts": 5}
