"""The names that users import: listed once, pinned here."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import rl_framework

PINNED = [
    "A2C",
    "A2CConfig",
    "AccelerateProcesses",
    "ActorCritic",
    "ActorCriticConfig",
    "Agent",
    "Algorithm",
    "BatchConstrainedConfig",
    "BehaviouralCloningAgent",
    "Callback",
    "CheckpointSchedule",
    "ClearMLConnector",
    "Completion",
    "Connector",
    "ConservativeSACConfig",
    "ConstantSchedule",
    "D3RLPYAgent",
    "DDPGConfig",
    "DQNConfig",
    "DistributedCheckpoints",
    "Episode",
    "EpisodeModel",
    "EpisodeScores",
    "EpisodeSequence",
    "EpisodeTrainer",
    "EpisodeTrainerAgent",
    "Evaluation",
    "ExponentialSchedule",
    "HuggingFaceConnector",
    "ILAgent",
    "ImitationAgent",
    "IndependentAgents",
    "JointTraining",
    "LanguageModelEpisodes",
    "LearnerConfig",
    "LinearSchedule",
    "LocalConnector",
    "LossyConversionWarning",
    "MEGAConfig",
    "MLflowConnector",
    "Model",
    "ModelEpisodes",
    "ModelOutput",
    "NativeAgent",
    "NullConnector",
    "OMEGAConfig",
    "OffPAC",
    "OffPACConfig",
    "OffPolicy",
    "OffPolicyAgent",
    "OffPolicyConfig",
    "OffPolicyLearner",
    "OpponentGame",
    "Outbox",
    "PPO",
    "PPOConfig",
    "Part",
    "PettingZooGame",
    "PiecewiseSchedule",
    "ProgressBar",
    "QLearning",
    "QLearningConfig",
    "REINFORCE",
    "REINFORCEConfig",
    "REINFORCEWithBaseline",
    "REINFORCEWithBaselineConfig",
    "RLAgent",
    "RLFrameworkError",
    "ReplayBuffer",
    "ReplayConfig",
    "ReplayPart",
    "Report",
    "Rollout",
    "SACConfig",
    "SelfPlay",
    "SimulatedTask",
    "StableBaselinesAgent",
    "StopOnPlateau",
    "StopOnReturn",
    "StopOnWallTime",
    "TD3BCConfig",
    "TD3Config",
    "Tee",
    "TensorBoardTracker",
    "TensorEnv",
    "TrackioTracker",
    "TrainingSummary",
    "UnityEnv",
    "UnityGame",
    "UnityGymnasiumVectorEnv",
    "UnityLaunch",
    "UnitySettings",
    "UnityVectorEnv",
    "VTraceAWR",
    "VTraceAWRConfig",
    "WandbTracker",
    "compare",
    "load_agent",
    "open_environments",
    "play_episodes",
    "record_video",
    "sample",
    "sample_episodes",
    "score",
]


def test_public_names_are_the_pinned_ones() -> None:
    assert sorted(rl_framework.__all__) == sorted(PINNED)


@pytest.mark.parametrize("name", PINNED)
def test_public_name_resolves_and_is_documented(name: str) -> None:
    thing = getattr(rl_framework, name)

    assert thing.__name__ == name
    assert thing.__doc__


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    assert _imports_under_type_checking() == rl_framework.PUBLIC_NAMES


def test_star_import_brings_every_public_name() -> None:
    namespace: dict[str, object] = {}
    exec("from rl_framework import *", namespace)

    assert set(PINNED) <= set(namespace)


def test_dir_lists_names_before_they_are_used() -> None:
    code = "import rl_framework; print(*dir(rl_framework))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert {*PINNED, "__version__"} <= set(listed)


def test_misspelt_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(
        AttributeError, match=r"no attribute 'StableBaselineAgent'\. Did you mean 'StableBaselinesAgent'"
    ):
        rl_framework.StableBaselineAgent  # type: ignore[attr-defined]  # noqa: B018


def test_version_is_that_of_the_installed_distribution() -> None:
    assert rl_framework.__version__ == version("rl_framework")


def _imports_under_type_checking() -> dict[str, str]:
    tree = ast.parse(Path(rl_framework.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {
        alias.asname or alias.name: (node.module or "").removeprefix("rl_framework.")
        for node in imports
        for alias in node.names
    }
