"""What the learner does with its parts, step by step."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.exploration.action_noise import GaussianNoise, GaussianNoiseConfig
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.off_policy_config import LearnerConfig, OffPolicyConfig
from rl_framework.algorithms.off_policy_learner import OffPolicyLearner
from rl_framework.algorithms.parts import Experience, Metrics, Part, Workshop
from rl_framework.algorithms.replay_config import ReplayConfig
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.algorithms.updates.base import UpdateRule
from rl_framework.algorithms.updates.sac import SAC, SACConfig
from rl_framework.algorithms.updates.td3 import TD3, TD3Config
from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL
from rl_framework.core.trees import Tree
from rl_framework.envs.source import open_environments
from rl_framework.errors import InvalidInputError, SpaceError, TrainingDivergedError
from rl_framework.testing.environments import MaskedCorridor
from tests.algorithms.off_policy_learners import SMALL, config_for, environments_for, learner_for, run, tensors_of
from tests.algorithms.scripted_env import ScriptedEnv, Step, rows


class Witness(Part):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Experience] = []
        self.steps: list[int] = []

    def process(self, experience: Experience) -> None:
        self.seen.append(experience)

    def optimize(self, step: int) -> Metrics:
        self.steps.append(step)
        return {}


def joined(parts: dict[str, Part], env: Any = "Pendulum-v1", n_envs: int = 1, **settings: Any) -> OffPolicyLearner:
    chosen = {"learning_starts": 10, "random_steps": 0, "device": "cpu", "seed": 0, **settings}
    return OffPolicyLearner(open_environments(env, n_envs=n_envs), parts, LearnerConfig(**chosen))


def typical(**more: Part) -> dict[str, Part]:
    replay = ReplayPart(ReplayConfig(capacity=100, batch_size=4))
    return {"replay": replay, "rule": TD3(TD3Config(network=SMALL)), **more}


class TestParts:
    def test_all_are_served_in_their_order(self) -> None:
        trace: list[tuple[str, str]] = []
        learner = OffPolicyLearner(
            open_environments("Pendulum-v1"),
            {"replay": ReplayPart(), "exploration": GaussianNoise(), "rule": SAC(SACConfig(network=SMALL))},
            LearnerConfig(learning_starts=2, random_steps=0, device="cpu"),
            trace=lambda name, hook: trace.append((name, hook)),
        )
        names = ("replay", "exploration", "rule")
        assert trace == [(name, "set_up") for name in names]
        trace.clear()
        for _ in range(2):
            learner.collect()
            learner.update()
        steps = [(name, hook) for hook in ("begin", "process", "process", "optimize") for name in names]
        assert trace == steps

    def test_a_rule_without_a_replay_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match=r"'rule' \(TD3\) needs a ReplayPart"):
            joined({"rule": TD3()})

    def test_a_learner_without_a_rule_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="no UpdateRule, but replay"):
            joined({"replay": ReplayPart()})

    def test_a_rule_replaced_in_a_run_leaves_nothing_behind(self) -> None:
        learner = joined(typical())
        old = learner.parts["rule"]
        for _ in range(15):
            learner.collect()
            learner.update()
        before = tensors_of(old.state_dict())
        new = SAC(SACConfig(network=SMALL))
        learner.replace("rule", new)
        fresh = tensors_of(new.state_dict())
        for _ in range(5):
            learner.collect()
            learner.update()
        assert all(map(torch.equal, before, tensors_of(old.state_dict())))
        assert not all(map(torch.equal, fresh, tensors_of(new.state_dict())))
        assert learner.policy.rule is new
        assert learner.updates == 11

    def test_what_the_replay_keeps_survives_a_replaced_rule(self) -> None:
        learner = joined(typical())
        for _ in range(12):
            learner.collect()
        learner.replace("rule", SAC(SACConfig(network=SMALL)))
        replay = learner.parts["replay"]
        assert isinstance(replay, ReplayPart)
        assert replay.n_learnable == 12


class TestWhenItLearns:
    @pytest.mark.parametrize(
        ("n_envs", "every", "updates", "expected"),
        [(1, 1, 1, 11), (1, 2, 1, 6), (3, 1, 1, 12), (3, 2, 2, 12), (2, 7, 1, 1)],
    )
    def test_counts_the_steps_of_all_environments(self, n_envs: int, every: int, updates: int, expected: int) -> None:
        learner = joined(typical(), n_envs=n_envs, learning_starts=10, optimize_every=every, updates=updates)
        while learner.timesteps < 20:
            learner.collect()
            learner.update()
        assert learner.updates == expected

    def test_steps_are_numbered_from_one(self) -> None:
        witness = Witness()
        learner = joined(typical(witness=witness))
        for _ in range(14):
            learner.collect()
            learner.update()
        assert witness.steps == [1, 2, 3, 4, 5]

    def test_several_steps_of_the_environments_are_learned_from_in_one_go(self) -> None:
        learner = joined(typical(), n_envs=2, steps_per_collect=8)
        assert learner.collect().timesteps == 16
        learner.update()
        assert learner.updates == 8

    def test_a_replay_smaller_than_what_is_waited_for_does_not_wait_for_ever(self) -> None:
        learner = joined({**typical(), "replay": ReplayPart(ReplayConfig(capacity=5, batch_size=2))})
        for _ in range(12):
            learner.collect()
            learner.update()
        assert learner.updates == 3

    def test_a_number_that_is_no_number_ends_it(self) -> None:
        learner = joined({"replay": ReplayPart(), "rule": TD3(TD3Config(network=SMALL)), "bad": Spoiler()})
        for _ in range(10):
            learner.collect()
        with pytest.raises(TrainingDivergedError, match="train/bad"):
            learner.update()


class Poison(Part):
    """Makes the weights of some networks NaN in one of the updates."""

    def __init__(self, step: int, networks: tuple[str, ...]) -> None:
        self._step, self._networks = step, networks

    def set_up(self, workshop: Workshop) -> None:
        self._rule = workshop.parts.get(UpdateRule)  # type: ignore[type-abstract]  # it is but looked for

    def optimize(self, step: int) -> Metrics:
        if step == self._step:
            for name in self._networks:
                for parameter in self._rule.networks()[name].parameters():
                    parameter.data.fill_(torch.nan)
        return {}


class TestDivergence:
    @pytest.mark.parametrize("networks", [("critics",), ("actor",), ("actor", "critics"), ("critic_targets",)])
    def test_good_weights_come_back_and_environments_never_see_what_is_no_number(
        self, networks: tuple[str, ...]
    ) -> None:
        witness = Witness()
        learner = joined({**typical(), "poison": Poison(4, networks), "witness": witness})
        rule = learner.parts["rule"]
        while learner.updates == 0:
            learner.collect()
            learner.update()
        good = tensors_of(rule.state_dict())
        with pytest.raises(TrainingDivergedError, match="The weights of update 1 were kept") as caught:
            run(learner, 20)
        assert caught.value.kept == 1
        assert caught.value.update in (4, 5)
        assert all(map(torch.equal, good, tensors_of(rule.state_dict())))
        assert all(bool(each.actions.isfinite().all()) for each in witness.seen)
        run(learner, 20)
        assert all(bool(tensor.isfinite().all()) for tensor in tensors_of(rule.state_dict()))

    def test_weights_are_kept_every_hundred_updates(self) -> None:
        learner = joined({**typical(), "poison": Poison(230, ("critics",))})
        with pytest.raises(TrainingDivergedError, match="The weights of update 200 were kept"):
            run(learner, 300)

    def test_bad_weights_are_found_where_numbers_are_not_watched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(OffPolicyLearner, "_is_watched", False)
        learner = joined({**typical(), "poison": Poison(200, ("actor_target",))})
        with pytest.raises(TrainingDivergedError, match="The weights of update 100 were kept") as caught:
            run(learner, 250)
        assert caught.value.update == 200


class Spoiler(Part):
    """Tells a number that is none."""

    def optimize(self, step: int) -> Metrics:
        del step
        return {"train/bad": torch.tensor(float("nan"))}


class TestExperience:
    def test_ends_are_told_apart_and_the_last_observation_is_the_true_one(self) -> None:
        script = [Step(1, 1.0), Step(2, 2.0, truncated=True), Step(3, 3.0), Step(4, 4.0, terminated=True)]
        witness = Witness()
        parts = {
            "replay": ReplayPart(ReplayConfig(capacity=10, batch_size=2)),
            "rule": OffPolicyConfig(rule={"kind": "dqn", "network": SMALL}).rule.make(),  # type: ignore[union-attr]  # a record
            "witness": witness,
        }
        settings = LearnerConfig(device="cpu", learning_starts=100, random_steps=0)
        learner = OffPolicyLearner(rows(ScriptedEnv(script)), parts, settings)
        for _ in range(4):
            learner.collect()
        seen = witness.seen
        assert [int(each.observations[0]) for each in seen] == [0, 1, 0, 3]
        assert [int(each.next_observations[0]) for each in seen] == [1, 2, 3, 4]
        assert [int(each.following[0]) for each in seen] == [1, 0, 3, 0]
        assert [bool(each.terminated[0]) for each in seen] == [False, False, False, True]
        assert [bool(each.truncated[0]) for each in seen] == [False, True, False, False]
        assert [float(each.rewards[0]) for each in seen] == [1.0, 2.0, 3.0, 4.0]

    def test_actions_go_out_in_the_environments_units(self) -> None:
        witness = Witness()
        space = spaces.Box(np.array([-3.0, 10.0], np.float32), np.array([1.0, 30.0], np.float32))
        env = Echo(space)
        learner = joined(typical(witness=witness), [env])
        for _ in range(5):
            learner.collect()
        for experience, received in zip(witness.seen, env.received, strict=True):
            unit = experience.actions[0].numpy()
            assert np.allclose(received, space.low + (unit + 1.0) / 2.0 * (space.high - space.low), atol=1e-5)

    def test_first_steps_are_drawn_evenly(self) -> None:
        witness = Witness()
        learner = joined(typical(witness=witness), n_envs=4, random_steps=2000, learning_starts=10**6)
        while learner.timesteps < 2000:
            learner.collect()
        drawn = torch.cat([each.actions for each in witness.seen]).flatten()
        counts = torch.histc(drawn, 10, -1.0, 1.0)
        assert float(((counts - 200.0).square() / 200.0).sum()) < 27.9  # chi-square, 9 degrees, p = 0.001
        learner.collect()
        policy = learner.policy.rule.act(witness.seen[-1].following, deterministic=True)
        learner.collect()
        assert torch.equal(witness.seen[-1].actions, policy)

    def test_a_new_run_ends_running_episodes_in_the_replay(self) -> None:
        learner = joined(typical())
        for _ in range(5):
            learner.collect()
        replay = learner.parts["replay"]
        assert isinstance(replay, ReplayPart)
        assert replay.buffer.steps_after(torch.arange(5)).tolist() == [4, 3, 2, 1, 0]
        learner.begin(learner.environments.reset(1), timesteps=5, target_timesteps=9)
        learner.collect()
        assert replay.buffer.steps_after(torch.arange(6)).tolist() == [4, 3, 2, 1, 0, 0]

    def test_tensor_environments_have_books(self) -> None:
        learner = joined(
            {
                "replay": ReplayPart(ReplayConfig(capacity=100, batch_size=4)),
                "rule": OffPolicyConfig(rule={"kind": "dqn", "network": SMALL}).rule.make(),  # type: ignore[union-attr]  # a record
            },
            "tensor:CartPole",
            n_envs=4,
            learning_starts=10**6,
        )
        episodes = [episode for _ in range(60) for episode in learner.collect().episodes]
        assert episodes
        assert all(episode.total_reward == episode.length for episode in episodes)
        assert sum(episode.length for episode in episodes) <= 240


class Echo(gym.Env[Any, Any]):
    """Keeps the actions that it gets."""

    def __init__(self, space: spaces.Box) -> None:
        self.observation_space, self.action_space = spaces.Box(-1.0, 1.0, (2,)), space
        self.received: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.received.append(np.array(action))
        return np.zeros(2, np.float32), 0.0, False, False, {}


class TestGoals:
    def test_what_happens_is_judged_by_the_goals_that_are_pursued(self) -> None:
        learner = learner_for("ddpg with goals")
        witness = Witness()
        learner.replace("witness", witness)
        run(learner, 60)
        different = 0
        for experience in witness.seen:
            asked, pursued = experience.environment_goals, experience.observations[DESIRED_GOAL]
            assert asked is not None
            different += int((asked != pursued).any())
            assert torch.equal(experience.next_observations[DESIRED_GOAL], pursued)
            reached = (experience.next_observations[ACHIEVED_GOAL] - pursued).norm(dim=1)
            assert torch.equal(experience.rewards == 0.0, reached <= 0.15)
        assert different > 10

    def test_environments_without_compute_reward_are_refused_before_the_first_step(self) -> None:
        env = open_environments([GoalsWithoutReward()])
        learner = OffPolicy(env, config_for("dqn with hindsight"))
        with pytest.raises(InvalidInputError, match="compute_reward"):
            learner.begin(env.reset(), timesteps=0, target_timesteps=10)

    def test_relabelling_needs_goals(self) -> None:
        config = config_for("dqn with priorities", replay={"relabel": "future_4"})
        with pytest.raises(SpaceError, match="relabel='future_4' needs observations with goals"):
            OffPolicy(open_environments("CartPole-v1"), config)


class GoalsWithoutReward(gym.Env[Any, Any]):
    """Observes goals and tells no rewards for them."""

    def __init__(self) -> None:
        goal = spaces.Box(0.0, 1.0, (2,))
        self.observation_space = spaces.Dict({"observation": goal, "achieved_goal": goal, "desired_goal": goal})
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tree, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return {name: np.zeros(2, np.float32) for name in self.observation_space.spaces}, {}  # type: ignore[attr-defined]  # a Dict


class TestNormalization:
    def test_only_acting_in_training_changes_statistics(self) -> None:
        learner = learner_for("td3")
        run(learner, 30)
        features = learner.policy.rule.features
        before = tensors_of(dict(features.state_dict()))
        assert features.is_normalized
        observations = np.full((5, 3), 100.0, np.float32)
        learner.policy.act(observations, deterministic=True)
        replay = learner.parts["replay"]
        assert isinstance(replay, ReplayPart)
        replay.sample(50)
        learner.updates += 1
        assert all(map(torch.equal, before, tensors_of(dict(features.state_dict()))))
        learner.collect()
        assert not all(map(torch.equal, before, tensors_of(dict(features.state_dict()))))

    def test_statistics_are_those_of_what_was_seen(self) -> None:
        learner = learner_for("td3", random_steps=10**6, learning_starts=10**6)
        witness = Witness()
        learner.replace("witness", witness)
        run(learner, 40)
        seen = torch.cat([experience.observations for experience in witness.seen]).double()
        normalization = learner.policy.rule.features.normalization
        assert normalization is not None
        unit = normalization(seen.float())
        assert torch.allclose(unit.double(), (seen - seen.mean(0)) / seen.std(0, correction=0), atol=2e-3)


class TestRefusals:
    def test_masks(self) -> None:
        with pytest.raises(InvalidInputError, match="which actions are allowed"):
            OffPolicy(open_environments([MaskedCorridor()]), OffPolicyConfig(rule="dqn"))

    def test_numbers_for_choices(self) -> None:
        with pytest.raises(SpaceError, match="rule='dqn'"):
            OffPolicy(open_environments("CartPole-v1"), OffPolicyConfig(rule="sac"))

    def test_choices_for_numbers(self) -> None:
        with pytest.raises(SpaceError, match="dqn"):
            OffPolicy(open_environments("Pendulum-v1"), OffPolicyConfig(rule="dqn"))

    def test_actions_that_are_neither(self) -> None:
        env = Echo(spaces.Box(-1.0, 1.0, (1,)))
        env.action_space = spaces.MultiBinary(3)
        with pytest.raises(SpaceError, match="MultiBinary"):
            OffPolicy(open_environments([env]), OffPolicyConfig())


def test_noise_is_a_part_like_any_other() -> None:
    calm, wild = (
        joined(typical(noise=GaussianNoise(GaussianNoiseConfig(std=std))), learning_starts=10**6) for std in (0.0, 5.0)
    )
    for learner in (calm, wild):
        learner.replace("witness", Witness())
        run_collecting(learner, 50)
    assert float(actions_of(calm).abs().max()) < 1.0
    assert float((actions_of(wild).abs() == 1.0).float().mean()) > 0.5


def run_collecting(learner: OffPolicyLearner, rounds: int) -> None:
    for _ in range(rounds):
        learner.collect()


def actions_of(learner: OffPolicyLearner) -> Tensor:
    witness = learner.parts["witness"]
    assert isinstance(witness, Witness)
    return torch.cat([experience.actions for experience in witness.seen])


def test_only_the_spec_is_read_before_the_first_run() -> None:
    from rl_framework.algorithms.detached_env import DetachedEnv

    learner = OffPolicy(DetachedEnv(environments_for("ddpg with goals").spec), config_for("ddpg with goals"))
    observation = {name: np.zeros((1, 2), np.float32) for name in ("observation", "achieved_goal", "desired_goal")}
    assert learner.policy.act(observation, deterministic=True).actions.shape == (1, 2)
