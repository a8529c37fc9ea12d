"""Any agent, from any engine, is trained, evaluated, recorded, saved, resumed and shared by the same calls.

The public names stand in `PUBLIC_NAMES` and are imported when they are first used (PEP 562), so that
`import rl_framework` takes milliseconds and brings in neither torch nor any engine. Under `TYPE_CHECKING` the same
names are imported plainly, for type checkers and editors; a test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rl_framework.agent.base_agent import Agent as Agent
    from rl_framework.agent.catalog import load_agent as load_agent
    from rl_framework.agent.imitation.behavioural_cloning import BehaviouralCloningAgent as BehaviouralCloningAgent
    from rl_framework.agent.imitation.d3rlpy.agent import D3RLPYAgent as D3RLPYAgent
    from rl_framework.agent.imitation.episode_trainer import EpisodeTrainerAgent as EpisodeTrainerAgent
    from rl_framework.agent.imitation.imitation.agent import ImitationAgent as ImitationAgent
    from rl_framework.agent.imitation.off_policy import OffPolicyAgent as OffPolicyAgent
    from rl_framework.agent.imitation_learning_agent import ILAgent as ILAgent
    from rl_framework.agent.independent_agents import IndependentAgents as IndependentAgents
    from rl_framework.agent.reinforcement.native import NativeAgent as NativeAgent
    from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent as StableBaselinesAgent
    from rl_framework.agent.reinforcement_learning_agent import RLAgent as RLAgent
    from rl_framework.agent.self_play import SelfPlay as SelfPlay
    from rl_framework.algorithms.accelerate_processes import AccelerateProcesses as AccelerateProcesses
    from rl_framework.algorithms.base import Algorithm as Algorithm
    from rl_framework.algorithms.distributed_checkpoints import DistributedCheckpoints as DistributedCheckpoints
    from rl_framework.algorithms.episode_trainer import EpisodeTrainer as EpisodeTrainer
    from rl_framework.algorithms.goal_selection.goal_configs import MEGAConfig as MEGAConfig
    from rl_framework.algorithms.goal_selection.goal_configs import OMEGAConfig as OMEGAConfig
    from rl_framework.algorithms.joint_training import JointTraining as JointTraining
    from rl_framework.algorithms.off_policy import OffPolicy as OffPolicy
    from rl_framework.algorithms.off_policy_actor_critic import OffPAC as OffPAC
    from rl_framework.algorithms.off_policy_config import LearnerConfig as LearnerConfig
    from rl_framework.algorithms.off_policy_config import OffPolicyConfig as OffPolicyConfig
    from rl_framework.algorithms.off_policy_learner import OffPolicyLearner as OffPolicyLearner
    from rl_framework.algorithms.parts import Part as Part
    from rl_framework.algorithms.policy_gradient import A2C as A2C
    from rl_framework.algorithms.policy_gradient import REINFORCE as REINFORCE
    from rl_framework.algorithms.policy_gradient import REINFORCEWithBaseline as REINFORCEWithBaseline
    from rl_framework.algorithms.policy_gradient_config import A2CConfig as A2CConfig
    from rl_framework.algorithms.policy_gradient_config import OffPACConfig as OffPACConfig
    from rl_framework.algorithms.policy_gradient_config import REINFORCEConfig as REINFORCEConfig
    from rl_framework.algorithms.policy_gradient_config import (
        REINFORCEWithBaselineConfig as REINFORCEWithBaselineConfig,
    )
    from rl_framework.algorithms.ppo import PPO as PPO
    from rl_framework.algorithms.ppo_config import PPOConfig as PPOConfig
    from rl_framework.algorithms.q_learning import QLearning as QLearning
    from rl_framework.algorithms.q_learning import QLearningConfig as QLearningConfig
    from rl_framework.algorithms.replay_config import ReplayConfig as ReplayConfig
    from rl_framework.algorithms.replay_part import ReplayPart as ReplayPart
    from rl_framework.algorithms.updates.batch_constrained import BatchConstrainedConfig as BatchConstrainedConfig
    from rl_framework.algorithms.updates.conservative_sac import ConservativeSACConfig as ConservativeSACConfig
    from rl_framework.algorithms.updates.ddpg import DDPGConfig as DDPGConfig
    from rl_framework.algorithms.updates.dqn import DQNConfig as DQNConfig
    from rl_framework.algorithms.updates.sac import SACConfig as SACConfig
    from rl_framework.algorithms.updates.td3 import TD3Config as TD3Config
    from rl_framework.algorithms.updates.td3_bc import TD3BCConfig as TD3BCConfig
    from rl_framework.algorithms.vtrace_awr import VTraceAWR as VTraceAWR
    from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig as VTraceAWRConfig
    from rl_framework.callbacks.base import Callback as Callback
    from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule as CheckpointSchedule
    from rl_framework.callbacks.progress_bar import ProgressBar as ProgressBar
    from rl_framework.callbacks.stop_conditions import StopOnPlateau as StopOnPlateau
    from rl_framework.callbacks.stop_conditions import StopOnReturn as StopOnReturn
    from rl_framework.callbacks.stop_conditions import StopOnWallTime as StopOnWallTime
    from rl_framework.connectors.base import Connector as Connector
    from rl_framework.connectors.clearml import ClearMLConnector as ClearMLConnector
    from rl_framework.connectors.huggingface import HuggingFaceConnector as HuggingFaceConnector
    from rl_framework.connectors.local import LocalConnector as LocalConnector
    from rl_framework.connectors.mlflow import MLflowConnector as MLflowConnector
    from rl_framework.connectors.null import NullConnector as NullConnector
    from rl_framework.connectors.outbox import Outbox as Outbox
    from rl_framework.connectors.tee import Tee as Tee
    from rl_framework.connectors.tensorboard import TensorBoardTracker as TensorBoardTracker
    from rl_framework.connectors.trackio import TrackioTracker as TrackioTracker
    from rl_framework.connectors.wandb import WandbTracker as WandbTracker
    from rl_framework.core.reports import Report as Report
    from rl_framework.core.reports import TrainingSummary as TrainingSummary
    from rl_framework.data.episode import Episode as Episode
    from rl_framework.data.episode_sequence import EpisodeSequence as EpisodeSequence
    from rl_framework.data.replay_buffer import ReplayBuffer as ReplayBuffer
    from rl_framework.data.rollout import Rollout as Rollout
    from rl_framework.envs.opponent_game import OpponentGame as OpponentGame
    from rl_framework.envs.pettingzoo.source import PettingZooGame as PettingZooGame
    from rl_framework.envs.source import open_environments as open_environments
    from rl_framework.envs.tensor_env import TensorEnv as TensorEnv
    from rl_framework.envs.tensor_task import SimulatedTask as SimulatedTask
    from rl_framework.envs.unity.gymnasium_faces import UnityEnv as UnityEnv
    from rl_framework.envs.unity.gymnasium_faces import UnityGymnasiumVectorEnv as UnityGymnasiumVectorEnv
    from rl_framework.envs.unity.launch import UnityLaunch as UnityLaunch
    from rl_framework.envs.unity.settings import UnitySettings as UnitySettings
    from rl_framework.envs.unity.source import UnityGame as UnityGame
    from rl_framework.envs.unity.vector_env import UnityVectorEnv as UnityVectorEnv
    from rl_framework.errors import LossyConversionWarning as LossyConversionWarning
    from rl_framework.errors import RLFrameworkError as RLFrameworkError
    from rl_framework.evaluation.comparison import compare as compare
    from rl_framework.evaluation.evaluation import Evaluation as Evaluation
    from rl_framework.functional.schedules import ConstantSchedule as ConstantSchedule
    from rl_framework.functional.schedules import ExponentialSchedule as ExponentialSchedule
    from rl_framework.functional.schedules import LinearSchedule as LinearSchedule
    from rl_framework.functional.schedules import PiecewiseSchedule as PiecewiseSchedule
    from rl_framework.nn.actor_critic import ActorCritic as ActorCritic
    from rl_framework.nn.actor_critic import ActorCriticConfig as ActorCriticConfig
    from rl_framework.nn.episode_model import EpisodeModel as EpisodeModel
    from rl_framework.nn.episode_model import EpisodeScores as EpisodeScores
    from rl_framework.nn.language_model_episodes import Completion as Completion
    from rl_framework.nn.language_model_episodes import LanguageModelEpisodes as LanguageModelEpisodes
    from rl_framework.nn.model import Model as Model
    from rl_framework.nn.model import ModelOutput as ModelOutput
    from rl_framework.nn.model_episodes import ModelEpisodes as ModelEpisodes
    from rl_framework.rollouts.episode_sampling import sample_episodes as sample_episodes
    from rl_framework.rollouts.play import play_episodes as play_episodes
    from rl_framework.rollouts.sampling import sample as sample
    from rl_framework.rollouts.scoring import score as score
    from rl_framework.video.recording import record_video as record_video

    __version__: str

PUBLIC_NAMES = {
    # agents
    "Agent": "agent.base_agent",
    "RLAgent": "agent.reinforcement_learning_agent",
    "ILAgent": "agent.imitation_learning_agent",
    "StableBaselinesAgent": "agent.reinforcement.stable_baselines.agent",
    "NativeAgent": "agent.reinforcement.native",
    "ImitationAgent": "agent.imitation.imitation.agent",
    "BehaviouralCloningAgent": "agent.imitation.behavioural_cloning",
    "D3RLPYAgent": "agent.imitation.d3rlpy.agent",
    "EpisodeTrainerAgent": "agent.imitation.episode_trainer",
    "OffPolicyAgent": "agent.imitation.off_policy",
    "IndependentAgents": "agent.independent_agents",
    "load_agent": "agent.catalog",
    # native algorithms
    "Algorithm": "algorithms.base",
    "PPO": "algorithms.ppo",
    "PPOConfig": "algorithms.ppo_config",
    "A2C": "algorithms.policy_gradient",
    "A2CConfig": "algorithms.policy_gradient_config",
    "REINFORCE": "algorithms.policy_gradient",
    "REINFORCEConfig": "algorithms.policy_gradient_config",
    "REINFORCEWithBaseline": "algorithms.policy_gradient",
    "REINFORCEWithBaselineConfig": "algorithms.policy_gradient_config",
    "OffPAC": "algorithms.off_policy_actor_critic",
    "OffPACConfig": "algorithms.policy_gradient_config",
    "OffPolicy": "algorithms.off_policy",
    "OffPolicyConfig": "algorithms.off_policy_config",
    "OffPolicyLearner": "algorithms.off_policy_learner",
    "LearnerConfig": "algorithms.off_policy_config",
    "Part": "algorithms.parts",
    "ReplayPart": "algorithms.replay_part",
    "ReplayConfig": "algorithms.replay_config",
    "DDPGConfig": "algorithms.updates.ddpg",
    "TD3Config": "algorithms.updates.td3",
    "SACConfig": "algorithms.updates.sac",
    "DQNConfig": "algorithms.updates.dqn",
    "TD3BCConfig": "algorithms.updates.td3_bc",
    "ConservativeSACConfig": "algorithms.updates.conservative_sac",
    "BatchConstrainedConfig": "algorithms.updates.batch_constrained",
    "MEGAConfig": "algorithms.goal_selection.goal_configs",
    "OMEGAConfig": "algorithms.goal_selection.goal_configs",
    "VTraceAWR": "algorithms.vtrace_awr",
    "VTraceAWRConfig": "algorithms.vtrace_awr_config",
    "EpisodeTrainer": "algorithms.episode_trainer",
    "EpisodeModel": "nn.episode_model",
    "EpisodeScores": "nn.episode_model",
    "ModelEpisodes": "nn.model_episodes",
    "LanguageModelEpisodes": "nn.language_model_episodes",
    "Completion": "nn.language_model_episodes",
    "AccelerateProcesses": "algorithms.accelerate_processes",
    "JointTraining": "algorithms.joint_training",
    "DistributedCheckpoints": "algorithms.distributed_checkpoints",
    "QLearning": "algorithms.q_learning",
    "QLearningConfig": "algorithms.q_learning",
    "ConstantSchedule": "functional.schedules",
    "LinearSchedule": "functional.schedules",
    "ExponentialSchedule": "functional.schedules",
    "PiecewiseSchedule": "functional.schedules",
    # networks and the research verbs
    "Model": "nn.model",
    "ModelOutput": "nn.model",
    "ActorCritic": "nn.actor_critic",
    "ActorCriticConfig": "nn.actor_critic",
    "Rollout": "data.rollout",
    "sample": "rollouts.sampling",
    "sample_episodes": "rollouts.episode_sampling",
    "score": "rollouts.scoring",
    # environments and data
    "open_environments": "envs.source",
    "TensorEnv": "envs.tensor_env",
    "SimulatedTask": "envs.tensor_task",
    "PettingZooGame": "envs.pettingzoo.source",
    "OpponentGame": "envs.opponent_game",
    "UnityGame": "envs.unity.source",
    "UnitySettings": "envs.unity.settings",
    "UnityLaunch": "envs.unity.launch",
    "UnityVectorEnv": "envs.unity.vector_env",
    "UnityEnv": "envs.unity.gymnasium_faces",
    "UnityGymnasiumVectorEnv": "envs.unity.gymnasium_faces",
    "Episode": "data.episode",
    "EpisodeSequence": "data.episode_sequence",
    "ReplayBuffer": "data.replay_buffer",
    "play_episodes": "rollouts.play",
    # what watches a run
    "Callback": "callbacks.base",
    "CheckpointSchedule": "callbacks.checkpoint_schedule",
    "SelfPlay": "agent.self_play",
    "ProgressBar": "callbacks.progress_bar",
    "StopOnReturn": "callbacks.stop_conditions",
    "StopOnPlateau": "callbacks.stop_conditions",
    "StopOnWallTime": "callbacks.stop_conditions",
    "Report": "core.reports",
    "TrainingSummary": "core.reports",
    # how good it is, and what it looks like
    "Evaluation": "evaluation.evaluation",
    "compare": "evaluation.comparison",
    "record_video": "video.recording",
    # where it goes
    "Connector": "connectors.base",
    "LocalConnector": "connectors.local",
    "NullConnector": "connectors.null",
    "Tee": "connectors.tee",
    "TensorBoardTracker": "connectors.tensorboard",
    "WandbTracker": "connectors.wandb",
    "TrackioTracker": "connectors.trackio",
    "HuggingFaceConnector": "connectors.huggingface",
    "ClearMLConnector": "connectors.clearml",
    "MLflowConnector": "connectors.mlflow",
    "Outbox": "connectors.outbox",
    # what goes wrong
    "RLFrameworkError": "errors",
    "LossyConversionWarning": "errors",
}

__all__ = list(PUBLIC_NAMES)

if not TYPE_CHECKING:  # A type checker that saw it would take every misspelt name for a public one.

    def __getattr__(name: str) -> object:
        """Import a public name on its first use."""
        if name == "__version__":
            value = _version()
        elif name in PUBLIC_NAMES:
            value = _imported(name)
        else:
            raise AttributeError(_unknown(name))
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC_NAMES, "__version__"})


def _imported(name: str) -> object:
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{PUBLIC_NAMES[name]}"), name)


def _version() -> str:
    from importlib.metadata import version

    return version("rl_framework")


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, PUBLIC_NAMES, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"module {__name__!r} has no attribute {name!r}.{hint}"
