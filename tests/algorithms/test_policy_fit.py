from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rl_framework.algorithms.episode_pieces import Piece, cut_pieces
from rl_framework.algorithms.episode_replay import EpisodeRecord
from rl_framework.algorithms.episode_table import EpisodeTable, score_pieces
from rl_framework.algorithms.kl_controller import KLController
from rl_framework.algorithms.policy_fit import Lessons, PolicyFit
from rl_framework.algorithms.processes import OneProcess
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.functional.policy_losses import approximate_kl
from rl_framework.nn.scaled_value import ScaledValue
from tests.algorithms.episode_models import TinyModel, make_trainer, tell
from tests.functional import slow_returns as slow

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "epochs": 1,
    "learning_rate": 0.0,
    "max_gradient_norm": None,
    "minibatch_timesteps": None,
    "value_coefficient": 0.3,
    "kl_coefficient": 0.7,
    "entropy_coefficient": 0.2,
}


def records(lengths: Sequence[int], seed: int = 0) -> list[EpisodeRecord]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for at, length in enumerate(lengths):
        told = tell(length, 1000 * seed + at)
        episode = {**told, "observations": told["observations"].double()}
        found.append(
            EpisodeRecord(
                number=at,
                episode=episode,
                rewards=torch.randn(length, generator=generator).double(),
                terminated=at % 2 == 0,
                log_prob=torch.rand(length, generator=generator).double().log(),
                added_at=0,
                length=length,
            )
        )
    return found


def model_of(seed: int, *, exact: bool = True) -> TinyModel:
    return TinyModel(seed, exact=exact).double()


def value_function_of(seed: int) -> ScaledValue:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = ScaledValue(5, (4,)).double().eval()
        torch.nn.init.normal_(made.head.weight)
    made.rescale(torch.tensor(0.7).double(), torch.tensor(2.0).double())
    return made


def fit_of(model: TinyModel, value_function: ScaledValue, **given: Any) -> PolicyFit:
    config = VTraceAWRConfig(**{**SETTINGS, **given})
    parameters = list(model.parameters())
    return PolicyFit(
        model=model,
        optimizer=torch.optim.AdamW(parameters, lr=config.at("learning_rate", 0.0), weight_decay=0.0),
        parameters=parameters,
        value_function=value_function,
        controller=KLController(config, CPU),
        config=config,
        processes=OneProcess(),
        generator=torch.Generator().manual_seed(0),
    )


def lessons_of(pieces: list[Piece], table: EpisodeTable) -> Lessons:
    generator = torch.Generator().manual_seed(5)
    return Lessons(
        pieces=pieces,
        table=table,
        weights=torch.rand(len(table), generator=generator).double(),
        value_targets=torch.randn(len(table), generator=generator).double(),
        entropy_target=torch.tensor(0.4).double(),
        entropy_coefficient=0.2,
    )


def slow_loss(fit: PolicyFit, lessons: Lessons, older: TinyModel) -> Tensor:
    """The loss as the specification writes it, one step of one episode at a time."""
    assert isinstance(fit.model, TinyModel)
    policy, divergence, values, entropies = [], [], [], []
    row = 0
    for piece in lessons.pieces:
        now, then = fit.model.score_episodes([piece.episode]), older.score_episodes([piece.episode])
        for step in range(piece.length):
            policy.append(-lessons.weights[row] * now.log_prob[step])
            if now.distribution is not None and then.distribution is not None:
                old, new = then.distribution.log_probs[step].detach(), now.distribution.log_probs[step]  # type: ignore[attr-defined]
                divergence.append((old.exp() * (old - new)).sum())
                entropies.append(-(new.exp() * new).sum())
            else:
                divergence.append(approximate_kl(now.log_prob[step], then.log_prob[step].detach()))
                entropies.append(-now.log_prob[step])
            told = (fit.value_function(now.encodings[step : step + 1]) - 0.7) / 2.0
            values.append((told - lessons.value_targets[row]).square().squeeze())
            row += 1
    terms = [torch.stack(terms).mean() for terms in (policy, divergence, values, entropies)]
    return terms[0] + 0.7 * terms[1] + 0.3 * terms[2] + 0.2 * (terms[3] - 0.4) ** 2


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 3), st.booleans())
def test_a_gradient_step_is_that_of_the_slow_loss(lengths: list[int], seed: int, exact: bool) -> None:
    model, older = model_of(seed, exact=exact), model_of(seed + 1, exact=exact)
    pieces = cut_pieces(model, records(lengths, seed), None)
    lessons = lessons_of(pieces, score_pieces(older, pieces, None))
    fit = fit_of(model, value_function_of(seed))
    expected = torch.autograd.grad(slow_loss(fit, lessons, older), list(model.parameters()))
    recorded = lessons.table.log_prob.clone()
    fit.run(lessons)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-9)
    assert torch.equal(lessons.table.log_prob, recorded)


def test_the_gradients_of_an_epochs_minibatches_are_together_that_of_the_whole() -> None:
    lengths, model, older = [3, 8, 1, 5, 5, 2], model_of(0), model_of(1)
    pieces = cut_pieces(model, records(lengths), 10)
    lessons = replace(lessons_of(pieces, score_pieces(older, pieces, 10)), entropy_coefficient=0.0)
    whole = fit_of(model, value_function_of(0))
    whole.run(lessons)
    expected = [parameter.grad for parameter in model.parameters()]
    sums = [torch.zeros_like(parameter) for parameter in model.parameters()]
    counted: list[int] = []

    class Adding(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]  # it only looks
            counted.append(1)
            for total, parameter in zip(sums, model.parameters(), strict=True):
                total.add_(parameter.grad if parameter.grad is not None else 0.0)

    fit = fit_of(model, value_function_of(0), minibatch_timesteps=10, kl_adaptation=0.0)
    fit.optimizer = Adding(fit.parameters, lr=0.0)
    fit.run(lessons)
    assert len(counted) > 2
    for total, gradient in zip(sums, expected, strict=True):
        assert gradient is not None
        torch.testing.assert_close(total / len(counted), gradient)


def test_the_value_function_stays_as_it_is_and_learns_again_afterwards() -> None:
    model, value_function = model_of(0), value_function_of(0)
    before = {name: tensor.clone() for name, tensor in value_function.state_dict().items()}
    pieces = cut_pieces(model, records([4, 6]), None)
    lessons = lessons_of(pieces, score_pieces(model, pieces, None))
    fit_of(model, value_function, learning_rate=0.1, epochs=3).run(lessons)
    assert all(torch.equal(before[name], tensor) for name, tensor in value_function.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in value_function.parameters())


def test_gradients_are_cut_and_their_length_is_told() -> None:
    model = model_of(0)
    pieces = cut_pieces(model, records([4, 6]), None)
    lessons = lessons_of(pieces, score_pieces(model_of(1), pieces, None))
    length = float(fit_of(model, value_function_of(0)).run(lessons)["gradient_norm"])
    assert length > 0.01
    cut = fit_of(model, value_function_of(0), max_gradient_norm=0.01)
    assert float(cut.run(lessons)["gradient_norm"]) == pytest.approx(length)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert math.hypot(*(float(gradient.norm()) for gradient in gradients)) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("normalize", [True, False])
def test_weights_and_value_targets_are_those_of_slow_twins(normalize: bool) -> None:
    lengths = [3, 7, 1, 4]
    weighing = {"normalize_advantages": normalize, "temperature": 0.7, "advantage_clip": 2.0}
    trainer = make_trainer(TinyModel().double(), minibatch_timesteps=None, **weighing)
    told = records(lengths, 3)
    for record in told:
        trainer.add_episode(
            record.episode, rewards=record.rewards, terminated=record.terminated, log_prob=record.log_prob
        )
    torch.nn.init.normal_(trainer.value_function.head.weight)
    phases = trainer._phases
    pieces = cut_pieces(phases._scorer, list(trainer.replay), None)
    table = phases._score(pieces)
    phases._count_rewards(pieces, table, updates=0)
    lessons = phases._lessons(pieces, table, 0.0)

    rewards = torch.cat([record.rewards for record in told if record.rewards is not None])
    size = float(rewards.square().mean().sqrt())
    rows = [(_row(trainer.model, trainer.value_function, record, size), record) for record in told]
    bars = (trainer.config.rho_bar, trainer.config.c_bar)
    worth = [
        (
            slow.vtrace_value(row, step, trainer.config.gamma, bars, trainer.config.trace_lambda),
            slow.vtrace_advantage(row, step, trainer.config.gamma, bars, trainer.config.trace_lambda),
        )
        for row, record in rows
        for step in range(len(row.rewards))
    ]
    targets, advantages = torch.tensor(worth, dtype=torch.float64).unbind(1)
    if normalize:
        advantages = (advantages - advantages.mean()) / advantages.std(correction=0)
    plain = (advantages / 0.7).clamp(max=2.0).exp()
    torch.testing.assert_close(lessons.weights, plain / plain.mean(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(lessons.value_targets, targets, rtol=1e-6, atol=1e-9)


def _row(model: Any, value_function: ScaledValue, record: EpisodeRecord, size: float) -> slow.Row:
    with torch.no_grad():
        scores = model.score_episodes([record.episode])
        values = value_function(scores.encodings).tolist()
    assert record.rewards is not None
    assert record.log_prob is not None
    ends = [False] * (len(record.rewards) - 1)
    return slow.Row(
        (record.rewards / size).tolist(),
        values[:-1],
        values[1:],
        [*ends, record.terminated],
        [*ends, not record.terminated],
        (scores.log_prob - record.log_prob).exp().tolist(),
    )
