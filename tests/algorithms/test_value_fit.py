from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rl_framework.algorithms.episode_pieces import cut_pieces
from rl_framework.algorithms.episode_replay import EpisodeRecord
from rl_framework.algorithms.episode_table import EpisodeTable, score_pieces
from rl_framework.algorithms.processes import OneProcess
from rl_framework.algorithms.value_fit import ValueFit
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.nn.episode_model import EpisodeScores
from rl_framework.nn.scaled_value import ScaledValue
from tests.algorithms.episode_models import TinyModel, tell

N_STATES, GAMMA = 5, 0.9


class Chain(nn.Module):
    """Encodings that tell states apart; an episode is the list of its states."""

    encoding_size = N_STATES

    def score_episodes(self, episodes: Sequence[list[int]]) -> EpisodeScores:
        lengths = tuple(len(states) - 1 for states in episodes)
        states = torch.tensor([state for episode in episodes for state in episode])
        encodings = nn.functional.one_hot(states, N_STATES).float()
        return EpisodeScores(encodings=encodings, log_prob=torch.zeros(sum(lengths)), lengths=lengths)


def record(number: int, episode: Any, rewards: Tensor, *, terminated: bool) -> EpisodeRecord:
    return EpisodeRecord(
        number=number,
        episode=episode,
        rewards=rewards.double(),
        terminated=terminated,
        log_prob=None,
        added_at=0,
        length=len(rewards),
    )


def chain_table() -> EpisodeTable:
    """Walks along five states to the right, with a reward of the state's number; some are cut short."""
    records = []
    for at in range(40):
        start, stop = at % N_STATES, N_STATES if at % 3 else min(N_STATES - 1, at % N_STATES + 2)
        states = list(range(start, max(stop, start + 1)))
        ends = len(states) + start == N_STATES
        states.append(0 if ends else states[-1] + 1)
        rewards = torch.tensor([float(state) for state in states[:-1]])
        records.append(record(at, states, rewards, terminated=ends))
    return score_pieces(Chain(), cut_pieces(Chain(), records, None), None)


def fit_of(value_function: ScaledValue, **given: Any) -> ValueFit:
    config = VTraceAWRConfig(gamma=GAMMA, **given)
    optimizer = torch.optim.AdamW(value_function.parameters(), lr=config.at("value_learning_rate", 0.0))
    generator = torch.Generator().manual_seed(0)
    return ValueFit(
        value_function=value_function, optimizer=optimizer, config=config, processes=OneProcess(), generator=generator
    )


@pytest.mark.parametrize("trace_lambda", [0.33, 0.95])
@pytest.mark.parametrize("reward_size", [1.0, 0.01])
def test_values_of_a_chain_become_those_of_dynamic_programming(trace_lambda: float, reward_size: float) -> None:
    torch.manual_seed(0)
    value_function = ScaledValue(N_STATES, (32,)).eval()
    fit = fit_of(value_function, trace_lambda=trace_lambda, value_minibatch_size=16, value_learning_rate=0.01)
    fit.run(chain_table(), 100, reward_size)
    expected = [0.0] * (N_STATES + 1)
    for state in reversed(range(N_STATES)):
        expected[state] = state + GAMMA * expected[state + 1]
    found = value_function(torch.eye(N_STATES)).detach() * reward_size
    torch.testing.assert_close(found, torch.tensor(expected[:-1]), rtol=0.0, atol=0.02)


def test_the_model_has_no_part_in_it() -> None:
    model = TinyModel()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    records = [record(at, tell(9, at), torch.randn(9), terminated=bool(at % 2)) for at in range(4)]
    table = score_pieces(model, cut_pieces(model, records, None), None)
    n_passes = len(model.n_steps)
    value_function = ScaledValue(5, (8,)).eval()
    start = value_function.head.weight.detach().clone()
    fit_of(value_function).run(table, 5, 1.0)
    assert not table.encodings.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert len(model.n_steps) == n_passes
    assert not torch.equal(value_function.head.weight, start)


def test_no_epochs_change_nothing() -> None:
    value_function = ScaledValue(N_STATES, (8,)).eval()
    before = {name: tensor.clone() for name, tensor in value_function.state_dict().items()}
    assert fit_of(value_function).run(chain_table(), 0, 1.0) == 0.0
    assert all(torch.equal(before[name], tensor) for name, tensor in value_function.state_dict().items())


def test_the_error_is_told_at_unit_scale() -> None:
    value_function = ScaledValue(N_STATES, ()).eval()
    fit = fit_of(value_function, value_learning_rate=0.0, value_minibatch_size=7, trace_lambda=1.0)
    first = float(fit.run(chain_table(), 1, 1.0))
    again = float(fit.run(chain_table(), 1, 1.0))
    table = chain_table()
    with torch.no_grad():
        targets = table.targets(value_function, fit.config, 1.0).values
        errors = targets - value_function(table.encodings[table.packed.before])
    assert first == pytest.approx(again, rel=1e-3)
    assert first == pytest.approx(float(errors.square().mean() / targets.var(correction=0)), rel=1e-3)
