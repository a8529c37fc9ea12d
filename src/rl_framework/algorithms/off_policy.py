"""DDPG, TD3, SAC, DQN and their relatives, with hindsight, goals of their own, and whatever else its parts give it.

Sources: Lillicrap et al., DDPG, 2016 (https://arxiv.org/abs/1509.02971); Fujimoto et al., TD3, 2018
(https://arxiv.org/abs/1802.09477); Haarnoja et al., SAC, 2018 (https://arxiv.org/abs/1812.05905); Mnih et al., DQN,
2015 (https://doi.org/10.1038/nature14236); Andrychowicz et al., hindsight, 2017 (https://arxiv.org/abs/1707.01495);
Pitis et al., MEGA and OMEGA, 2020 (https://arxiv.org/abs/2007.02832), and their library mrl, whose division into parts
this one follows.
"""

from __future__ import annotations

from typing import ClassVar, cast

from gymnasium import spaces

from rl_framework.algorithms.cuda_graphs import GraphBackend
from rl_framework.algorithms.exploration.action_noise import GaussianNoiseConfig, PolicyRandomnessConfig
from rl_framework.algorithms.exploration.epsilon_greedy import EpsilonGreedyConfig
from rl_framework.algorithms.exploration.exploration import ExplorationConfig
from rl_framework.algorithms.goal_selection.goal_configs import GoalSelectionConfig
from rl_framework.algorithms.intrinsic_rewards import IntrinsicRewardConfig
from rl_framework.algorithms.off_policy_config import ExtraPartConfig, OffPolicyConfig
from rl_framework.algorithms.off_policy_learner import OffPolicyLearner
from rl_framework.algorithms.parts import Part, Trace
from rl_framework.algorithms.replay_config import ReplayConfig
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.algorithms.updates.sac import SACConfig
from rl_framework.envs.tensor_env import TensorEnv
from rl_framework.envs.vector_env import EnvSpec, VectorEnv


class OffPolicy(OffPolicyLearner):
    """The off-policy learner whose parts are described by settings.

        learner = OffPolicy(open_environments("Pendulum-v1"), OffPolicyConfig(rule="sac"))
        learner.collect()
        learner.update()

    Attributes:
        Config: The class of its settings.
        config: Its settings.
    """

    Config: ClassVar[type[OffPolicyConfig]] = OffPolicyConfig
    config: OffPolicyConfig

    def __init__(
        self,
        env: VectorEnv | TensorEnv,
        config: OffPolicyConfig | None = None,
        *,
        trace: Trace | None = None,
        graphs: GraphBackend | None = None,
    ) -> None:
        """Make the parts; see `OffPolicyLearner`."""
        config = config or OffPolicyConfig()
        super().__init__(env, make_parts(config, env.spec), config, trace=trace, graphs=graphs)


def make_parts(config: OffPolicyConfig, spec: EnvSpec) -> dict[str, Part | None]:
    """The parts that settings describe, in their order.

    Goals of new episodes are chosen when the step that ended the old ones is stored; the rule learns after all parts
    but those of users.

    Args:
        config: The settings.
        spec: Of the environments.
    """
    rule = cast(RuleConfig, config.rule)
    return {
        "replay": ReplayPart(cast(ReplayConfig, config.replay)),
        "goals": None if config.goals is None else cast(GoalSelectionConfig, config.goals).make(),
        "exploration": _exploration(config, rule, spec).make(),
        "intrinsic": None if config.intrinsic is None else cast(IntrinsicRewardConfig, config.intrinsic).make(),
        "rule": rule.make(),
        **{name: cast(ExtraPartConfig, part).make() for name, part in config.extra_parts.items()},
    }


def _exploration(config: OffPolicyConfig, rule: RuleConfig, spec: EnvSpec) -> ExplorationConfig:
    """What was chosen, or the usual: chance for choices, noise for numbers unless the policy itself draws them."""
    if config.exploration is not None:
        return cast(ExplorationConfig, config.exploration)
    if isinstance(spec.action_space, spaces.Discrete):
        return EpsilonGreedyConfig()
    return PolicyRandomnessConfig() if isinstance(rule, SACConfig) else GaussianNoiseConfig()
