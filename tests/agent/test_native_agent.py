"""What agents on this library's own engine have beyond the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium import spaces

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.ppo import PPO
from rl_framework.algorithms.ppo_config import PPOConfig
from rl_framework.algorithms.vtrace_awr import VTraceAWR
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.callbacks.stop_conditions import StopOnPlateau
from rl_framework.core.trees import leaves
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.errors import InvalidInputError, TrainingDivergedError, UnsafeArchiveError
from rl_framework.testing.agent_contract import assert_same_files
from rl_framework.testing.environments import AnySpaceEnv, MaskedCorridor, RecallEnv
from tests.algorithms.test_ppo import OwnModel

SMALL: dict[str, Any] = {"horizon": 16, "seed": 0, "device": "cpu", "network": {"hidden_sizes": (8,)}}


def trained(environments: Any, network: Any = None, **parameters: Any) -> NativeAgent:
    network = {"hidden_sizes": (8,), **(network or {})}
    agent = NativeAgent(PPO, {**SMALL, "network": network, **parameters})
    agent.train(environments, 64, progress_bar=False)
    return agent


def trained_on_episodes(environments: Any, network: Any = None, **parameters: Any) -> NativeAgent:
    network = {"body_sizes": (8,), "hidden_sizes": (8,), **(network or {})}
    given = {"seed": 0, "device": "cpu", "steps_per_update": 32, "epochs": 1, "value_warmup_epochs": 1}
    agent = NativeAgent(VTraceAWR, {**given, "network": network, **parameters})
    agent.train(environments, 64, progress_bar=False)
    return agent


class TestOnnx:
    @pytest.mark.parametrize("train", [trained, trained_on_episodes])
    @pytest.mark.parametrize("memory", ["lstm", "gru", "attention"])
    def test_memory_goes_in_and_out(self, memory: str, train: Callable[..., NativeAgent], tmp_path: Path) -> None:
        agent = train([RecallEnv() for _ in range(2)], {"memory": memory, "memory_size": 8, "window": 3})
        session = onnxruntime.InferenceSession(str(agent.export_onnx(tmp_path / "policy.onnx")))
        env = RecallEnv()
        observation, _ = env.reset(seed=3)
        names = [each.name for each in session.get_inputs() if each.name.startswith("state")]
        initial = agent.policy.act(np.stack([observation]), deterministic=True).state
        state = [np.zeros_like(leaf.numpy()) for leaf in leaves(initial)]
        memory_here, starts = None, True
        for _ in range(4):
            here = agent.policy.act(np.stack([observation]), memory_here, deterministic=True)
            inputs = {"observation": np.stack([observation]), "episode_starts": np.array([starts])}
            actions, *state = session.run(None, {**inputs, **dict(zip(names, state, strict=True))})
            assert actions.tolist() == here.actions.tolist()
            for one, other in zip(state, leaves(here.state), strict=True):
                np.testing.assert_allclose(one, other.numpy(), atol=1e-5)
            memory_here, starts = here.state, False
            observation = env.step(actions[0])[0]

    @pytest.mark.parametrize("train", [trained, trained_on_episodes])
    def test_masks_hold(self, train: Callable[..., NativeAgent], tmp_path: Path) -> None:
        agent = train([MaskedCorridor() for _ in range(2)])
        session = onnxruntime.InferenceSession(str(agent.export_onnx(tmp_path / "policy.onnx")))
        observation, _ = MaskedCorridor().reset(seed=0)
        n_choices = int(agent.policy.action_space.n)  # type: ignore[attr-defined]
        for allowed in range(n_choices):
            masks = np.arange(n_choices) == allowed
            (actions,) = session.run(None, {"observation": np.stack([observation]), "action_masks": masks[None]})
            assert actions.tolist() == [allowed]

    @pytest.mark.parametrize("train", [trained, trained_on_episodes])
    def test_nested_spaces(self, train: Callable[..., NativeAgent], tmp_path: Path) -> None:
        seen = spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Discrete(4)})
        done = spaces.Dict({"move": spaces.Discrete(3), "force": spaces.Box(-1, 1, (2,))})
        agent = train([AnySpaceEnv(seen, done)])
        session = onnxruntime.InferenceSession(str(agent.export_onnx(tmp_path / "policy")))
        assert {each.name for each in session.get_outputs()} == {"actions.force", "actions.move"}


class TestFiles:
    def test_a_model_of_ones_own_needs_trust(self, tmp_path: Path) -> None:
        agent = NativeAgent(PPO, {**SMALL, "network": None, "model": OwnModel, "model_parameters": {"width": 6}})
        agent.train("CartPole-v1", 32, progress_bar=False)
        agent.save(tmp_path / "agent")
        with pytest.raises(UnsafeArchiveError, match="test_ppo"):
            load_agent(tmp_path / "agent")
        loaded = load_agent(tmp_path / "agent", trust=["tests.algorithms.test_ppo"])
        assert isinstance(loaded, NativeAgent)
        assert isinstance(loaded.algorithm.model, OwnModel)  # type: ignore[attr-defined]
        loaded.train("CartPole-v1", 32, progress_bar=False)

    def test_an_optimiser_class_is_written_by_name(self, tmp_path: Path) -> None:
        agent = trained("CartPole-v1", optimizer=torch.optim.AdamW, optimizer_parameters={"weight_decay": 0.1})
        agent.save(tmp_path / "agent")
        loaded = load_agent(tmp_path / "agent")
        assert isinstance(loaded, NativeAgent)
        assert loaded.config == agent.config

    def test_a_model_without_a_name_is_told_when_it_is_saved(self, tmp_path: Path) -> None:
        class Local(OwnModel):
            pass

        agent = NativeAgent(PPO, {**SMALL, "network": None, "model": Local})
        agent.train("CartPole-v1", 32, progress_bar=False)
        with pytest.raises(InvalidInputError, match="define it in a module"):
            agent.save(tmp_path / "agent")
        assert not (tmp_path / "agent").exists()


class TestTensorEnvironments:
    @pytest.mark.parametrize("memory", [None, "lstm"])
    def test_a_run_in_them_is_resumed_exactly(self, memory: str | None, tmp_path: Path) -> None:
        network = {"hidden_sizes": (8,), "memory": memory, "memory_size": 8, "normalize_observations": True}
        agent = NativeAgent(PPO, {**SMALL, "network": network, "normalize_rewards": "running"})
        schedule = CheckpointSchedule(tmp_path / "run", 512, keep_last=10)
        summary = agent.train("tensor:CartPole", 2048, n_envs=16, checkpoint=schedule, progress_bar=False)
        assert summary.resume_level == "exact"
        checkpoints = sorted((tmp_path / "run").glob("step_*"))
        assert len(checkpoints) >= 3
        resumed = load_agent(checkpoints[1])
        assert isinstance(resumed, NativeAgent)
        resumed.resume("tensor:CartPole", progress_bar=False)
        assert_same_files(agent, resumed, tmp_path / "compared")

    @pytest.mark.parametrize("memory", [None, "gru"])
    def test_a_run_on_episodes_in_them_is_resumed_exactly(self, memory: str | None, tmp_path: Path) -> None:
        network = {"body_sizes": (8,), "hidden_sizes": (8,), "memory": memory, "memory_size": 8}
        agent = NativeAgent(
            VTraceAWR,
            {"seed": 0, "device": "cpu", "steps_per_update": 500, "epochs": 1, "network": network, "replay_updates": 2},
        )
        schedule = CheckpointSchedule(tmp_path / "run", 512, keep_last=10)
        assert agent.train("tensor:CartPole", 2048, n_envs=16, checkpoint=schedule, progress_bar=False).warnings == ()
        checkpoints = sorted((tmp_path / "run").glob("step_*"))
        assert len(checkpoints) >= 3
        resumed = load_agent(checkpoints[1])
        assert isinstance(resumed, NativeAgent)
        resumed.resume("tensor:CartPole", progress_bar=False)
        assert_same_files(agent, resumed, tmp_path / "compared")

    def test_gymnasium_s_own_environment_judges_what_was_learned_in_tensors(self) -> None:
        agent = trained("tensor:CartPole")
        evaluation = agent.evaluate("CartPole-v1", 4, seed=0)
        assert evaluation.environment_id == "CartPole-v1"
        assert agent.evaluate("tensor:CartPole", 4, seed=0).returns.shape == (4,)


class TestOwnLoops:
    def test_an_agent_is_made_of_what_an_algorithm_has_learned(self, tmp_path: Path) -> None:
        env = CartPole(8)
        ppo = PPO(env, PPOConfig(**SMALL))
        ppo.collect()
        ppo.update()
        agent = NativeAgent.from_algorithm(ppo, env.spec, timesteps=64)
        agent.save(tmp_path / "agent")
        loaded = load_agent(tmp_path / "agent")
        observations = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
        expected = ppo.policy.act(observations, deterministic=True).actions
        assert np.array_equal(loaded.policy.act(observations, deterministic=True).actions, expected)
        assert (agent.timesteps, agent.config) == (64, ppo.config)

    def test_it_goes_its_own_way_from_there(self) -> None:
        env = CartPole(8)
        ppo = PPO(env, PPOConfig(**SMALL))
        agent = NativeAgent.from_algorithm(ppo, env.spec)
        before = ppo.model.state_dict()["head.linear.weight"].clone()
        agent.train("tensor:CartPole", 512, n_envs=8, progress_bar=False)
        assert torch.equal(ppo.model.state_dict()["head.linear.weight"], before)
        assert agent.timesteps == 512

    def test_what_has_no_hyper_parameters_is_no_algorithm(self) -> None:
        with pytest.raises(InvalidInputError, match="hyper-parameters as `config`"):
            NativeAgent.from_algorithm(object(), CartPole(1).spec)  # type: ignore[arg-type]  # what a user might do


class TestStopping:
    def test_a_plateau_of_any_reported_statistic_ends_the_run(self) -> None:
        agent = NativeAgent(PPO, {**SMALL, "learning_rate": 0.0})
        stop = StopOnPlateau("metrics:train/entropy", patience=256, min_delta=0.05, relative=True)
        summary = agent.train("tensor:CartPole", 20_000, n_envs=8, callbacks=[stop], progress_bar=False)
        assert summary.stop_reason is not None
        assert "metrics:train/entropy has not improved" in summary.stop_reason
        assert summary.taken_timesteps < 20_000


def test_bad_minibatches_are_told_before_any_step() -> None:
    steps = []

    class Counted(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            steps.append(action)
            return super().step(action)

    agent = NativeAgent(PPO, {**SMALL, "minibatch_size": 10})
    with pytest.raises(InvalidInputError, match="minibatches of 10"):
        agent.train([Counted(gym.make("CartPole-v1"))], 64, progress_bar=False)
    assert steps == []


def test_an_agent_whose_learning_blows_up_acts_as_it_did_before(tmp_path: Path) -> None:
    rule = {"kind": "ddpg", "network": {"hidden_sizes": (8,)}, "learning_rate": 1e25, "actor_learning_rate": 1e25}
    settings = {"rule": rule, "learning_starts": 20, "random_steps": 20, "device": "cpu", "seed": 0}
    agent = NativeAgent(OffPolicy, {**settings, "replay": {"batch_size": 8}})
    with pytest.raises(TrainingDivergedError, match="Lower the learning rate"):
        agent.train("Pendulum-v1", 200, progress_bar=False)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    observations = np.zeros((3, 3), np.float32)
    for each in (agent, loaded):
        assert np.isfinite(each.policy.act(observations, deterministic=True).actions).all()
