"""The library's progress bar over the training of reward networks, and how long it has to be taken away."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from imitation.algorithms import preference_comparisons as library
from imitation.data.types import TrajectoryWithRew
from imitation.rewards.reward_nets import BasicRewardNet

from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.compat.imitation_progress_bars import no_progress_bars


def train_once() -> None:
    net = BasicRewardNet(gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2))
    fragment = TrajectoryWithRew(
        obs=np.zeros((3, 1), dtype=np.float32),
        acts=np.zeros(2, dtype=np.int64),
        rews=np.zeros(2),
        infos=None,
        terminal=False,
    )
    data = library.PreferenceDataset()
    data.push([(fragment, fragment)], np.ones(1, dtype=np.float32))
    trainer = library.BasicRewardTrainer(
        library.PreferenceModel(net),
        library.CrossEntropyRewardLoss(),
        rng=np.random.default_rng(0),
        custom_logger=RunLogger(),
    )
    trainer.train(data)


def test_the_library_still_draws_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    # Once this fails, the repair is no longer needed: remove compat/imitation_progress_bars.py.
    train_once()
    assert "Training reward model" in capsys.readouterr().err


def test_nothing_is_drawn_inside(capsys: pytest.CaptureFixture[str]) -> None:
    with no_progress_bars():
        train_once()
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_the_library_is_as_before_afterwards() -> None:
    module: Any = library
    before = module.tqdm
    with pytest.raises(RuntimeError, match="failed"), no_progress_bars():
        raise RuntimeError("failed")
    assert module.tqdm is before


def test_a_library_without_a_bar_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(library, "tqdm")
    with no_progress_bars():
        assert not hasattr(library, "tqdm")
