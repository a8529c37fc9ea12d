"""The examples of the episode trainer run, with smaller budgets, and say what they promise to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from exploration import language_model, two_agents_one_episode
from exploration.memory_task import AHEAD, LEFT, RIGHT, TMaze
from rl_framework.nn.language_model_episodes import Completion
from tests.exploration.test_exploration import BUDGET, EXPLORATION, run_script
from tests.exploration.test_research_verbs import lines_of_code

STORIES = {
    "episode_trainer": (re.compile(r"(CartPole-v1|Pendulum-v1) +\d+ steps: mean return (-?[\d.]+)"), 2),
    "language_model": (re.compile(r"(pre-trained|rewarded): +([\d.]+)% rewarded"), 6),
    "memory_task": (re.compile(r"memory=(None|gru): a return of (-?[\d.]+) ±"), 2),
    "two_agents_one_episode": (re.compile(r"(before|after): a return of +(-?[\d.]+), together"), 2),
}


@pytest.mark.parametrize("story", STORIES)
def test_the_example_runs_and_prints_what_it_learned(
    story: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUDGET, "RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "1000")
    done = run_script(EXPLORATION / f"{story}.py", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    pattern, n_lines = STORIES[story]
    found = pattern.findall(done.stdout)
    assert len(found) == n_lines
    assert len({kind for kind, _ in found}) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_loop_of_ones_own_takes_less_than_eighty_lines_of_code() -> None:
    assert 40 < len(lines_of_code(EXPLORATION / "episode_trainer.py")) < 80


# The T-maze


def test_the_sign_is_shown_at_the_entrance_only() -> None:
    maze = TMaze(8, length=3)
    seen = [maze.reset(seed=0)]
    seen += [maze.step(torch.full((8,), AHEAD)).observations for _ in range(3)]
    assert set(seen[0][:, 0].tolist()) == {-1.0, 1.0}
    assert [observation[:, 0].abs().max() for observation in seen[1:]] == [0.0, 0.0, 0.0]
    assert [observation[:, 1].unique().tolist() for observation in seen] == [[0.0], [0.0], [0.0], [1.0]]


@pytest.mark.parametrize("lies", [False, True])
def test_the_turn_ends_the_maze_and_pays_for_the_side_of_the_sign(*, lies: bool) -> None:
    maze = TMaze(8, length=2)
    points_right = (maze.reset(seed=1)[:, 0] > 0) ^ lies
    for _ in range(2):
        step = maze.step(torch.full((8,), AHEAD))
        assert not step.terminated.any()
    step = maze.step(torch.where(points_right, RIGHT, LEFT))
    assert step.terminated.all()
    assert step.rewards.tolist() == [-1.0 if lies else 1.0] * 8


def test_walls_cost_a_little_and_lead_nowhere() -> None:
    maze = TMaze(2, length=2)
    before = maze.reset(seed=0)
    step = maze.step(torch.tensor([LEFT, RIGHT]))
    assert step.rewards.tolist() == pytest.approx([-0.05, -0.05])
    assert torch.equal(step.observations, before)


# Two agents


def test_the_likelihoods_of_both_agents_add_up_in_every_step() -> None:
    torch.manual_seed(0)
    agents = two_agents_one_episode.TwoAgents()
    games = two_agents_one_episode.play(agents, n_games=5)
    scores = agents.score_episodes(games)
    assert scores.lengths == tuple(len(game["roll"]) for game in games)
    assert torch.allclose(scores.log_prob, torch.cat([game["log_prob"] for game in games]), atol=1e-5)
    first = games[0]
    both, _ = agents.act(first["cart"][:-1], first["passenger"][:-1])
    cart = both.parts["roll"].log_prob(first["roll"])
    passenger = both.parts["walk"].log_prob(first["walk"]) + both.parts["jump"].log_prob(first["jump"])
    assert torch.allclose(scores.log_prob[: scores.lengths[0]], cart + passenger, atol=1e-5)


def test_each_agent_acts_upon_its_own_view() -> None:
    agents = two_agents_one_episode.TwoAgents()
    cart, passenger, other = torch.randn(3, 6, 4)
    before, after = agents.act(cart, passenger)[0], agents.act(cart, other)[0]
    assert torch.equal(before.parts["roll"].logits, after.parts["roll"].logits)
    assert not torch.equal(before.parts["walk"].mean, after.parts["walk"].mean)


def test_a_game_ends_with_the_first_jump_that_meets_the_cart() -> None:
    torch.manual_seed(0)
    games = two_agents_one_episode.play(two_agents_one_episode.TwoAgents(), n_games=200)
    met = [game["met"] for game in games]
    assert not any(flags[:-1].any() for flags in met)
    assert any(flags[-1] for flags in met)
    assert all(flags[-1] or len(flags) == two_agents_one_episode.LONGEST for flags in met)


# The language model


def test_the_grammar_knows_its_sentences_and_no_others() -> None:
    grammar = language_model.Grammar(seed=0)
    sentences = [grammar.sentence() for _ in range(200)]
    assert all(map(grammar.has, sentences))
    assert max(map(len, sentences)) < language_model.LONGEST
    for wrong in (
        "",
        "a cat.",
        "a cat sees a dog",
        "a cat sees a dog in in town.",
        "A cat sees a dog.",
        "a cat  sees a dog.",
    ):
        assert not grammar.has(wrong)


def test_a_reward_is_for_sentences_without_the_letter_behind_the_prompt() -> None:
    texts = {"the |cat calls a dog.": True, "a |cat sees a dog.": False, "a |cat calls a cat": False, "a |dog.": False}
    for text, expected in texts.items():
        prompt, written = text.split("|")
        tokens = language_model.tokens_of(prompt + written)
        assert language_model.has_property(Completion(tokens=tokens, n_prompt=len(prompt))) is expected


def test_the_transformer_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    body = language_model.Transformer()
    texts = torch.randint(len(language_model.CHARACTERS), (2, 9))
    changed = texts.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % len(language_model.CHARACTERS)
    before, after = body(texts), body(changed)
    assert torch.allclose(before[:, :6], after[:, :6], atol=1e-6)
    assert not torch.allclose(before[:, 6:], after[:, 6:], atol=1e-3)
