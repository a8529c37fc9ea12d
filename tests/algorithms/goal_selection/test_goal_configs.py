from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from rl_framework.algorithms.goal_selection.goal_configs import (
    GOAL_SELECTIONS,
    GoalSelectionConfig,
    MEGAConfig,
    OMEGAConfig,
    as_goal_config,
)
from rl_framework.algorithms.goal_selection.goal_densities import FlowGoalDensityConfig
from rl_framework.errors import InvalidInputError, UnknownOptionError


@pytest.mark.parametrize("kind", GOAL_SELECTIONS)
def test_settings_survive_json(kind: str) -> None:
    config = as_goal_config({"kind": kind, "n_candidates": 7, "allowed": [[0, 0], [1, 2]]})

    again = as_goal_config(json.loads(json.dumps(asdict(config))))

    assert again == config
    assert again.allowed == ((0.0, 0.0), (1.0, 2.0))
    assert as_goal_config(kind) == GOAL_SELECTIONS[kind]()


def test_parts_of_settings_may_be_named_or_written_out() -> None:
    config = as_goal_config({"kind": "omega", "density": {"kind": "flow", "n_pairs": 2}, "mixing": {"bias": -1.0}})

    assert isinstance(config, OMEGAConfig)
    assert config.density == FlowGoalDensityConfig(n_pairs=2)
    assert config.mixing == OMEGAConfig(mixing={"bias": -1.0}).mixing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_candidates": 0}, "n_candidates of a selection of goals must be a whole number from 1, got 0"),
        ({"go_explore": 2.0}, r"go_explore .* in \[0, 1\], got 2"),
        ({"environment_share": -0.1}, r"environment_share .* got -0\.1"),
        ({"initial_cutoff": float("nan")}, "initial_cutoff .* finite number, got nan"),
        ({"desired_bonus": 0.5}, r"desired_bonus .* in \[1, inf\], got 0\.5"),
        ({"cutoff_thresholds": (0.7, 0.3)}, "the lower one first"),
        ({"cutoff_thresholds": 0.3}, r"two shares such as \(0\.3, 0\.7\)"),
        ({"allowed": ((0.0, 0.0), (1.0,))}, "allowed must be the least and the greatest"),
        ({"allowed": ((1.0,), (0.0,))}, "allowed must be the least and the greatest"),
        ({"density": "kernal"}, r"Unknown density of goals: 'kernal'\. Did you mean 'kernel'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        MEGAConfig(**settings)


def test_unknown_kinds_and_settings_are_refused() -> None:
    with pytest.raises(UnknownOptionError, match=r"Unknown selection of goals: 'meg'\. Did you mean 'mega'"):
        as_goal_config("meg")
    with pytest.raises(UnknownOptionError, match="n_candidate"):
        as_goal_config({"kind": "mega", "n_candidate": 3})
    with pytest.raises(InvalidInputError, match="mixing must be a DesiredGoalMixingConfig or a mapping"):
        OMEGAConfig(mixing="often")  # type: ignore[arg-type]  # that is the point


def test_users_own_kinds_are_named_by_their_class() -> None:
    class Own(MEGAConfig):
        pass

    assert isinstance(as_goal_config({"kind": Own}), Own)
    with pytest.raises(NotImplementedError):
        GoalSelectionConfig().make()
