from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.algorithms.base import make_config
from rl_framework.algorithms.behavioural_cloning import BehaviouralCloning, LearnReport
from rl_framework.algorithms.behavioural_cloning_config import BehaviouralCloningConfig
from rl_framework.core.trees import leaves, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.transition_arrays import Pairs
from rl_framework.errors import InvalidInputError, RLFrameworkError, SpaceError, UnknownOptionError
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.functional.schedules import LinearSchedule
from rl_framework.nn.policy_network import PolicyNetworkConfig
from rl_framework.testing.demonstrations import cart_pole_episodes, recordings

CPU = torch.device("cpu")
LINE = spaces.Box(-1.0, 1.0, (2,), np.float32)
SIDES = spaces.Discrete(2)


def make(
    seen: gym.Space[Any] = LINE, done: gym.Space[Any] = SIDES, network: Any = None, **parameters: Any
) -> BehaviouralCloning:
    config = BehaviouralCloningConfig(**{"seed": 0, **parameters})
    return BehaviouralCloning(seen, done, config, network or PolicyNetworkConfig(hidden_sizes=(16,)), CPU)


def begun(episodes: EpisodeSequence, target: int = 1000, **parameters: Any) -> BehaviouralCloning:
    assert episodes.observation_space is not None
    assert episodes.action_space is not None
    algorithm = make(episodes.observation_space, episodes.action_space, **parameters)
    algorithm.begin(episodes)
    algorithm.target_timesteps = target
    return algorithm


def learn(algorithm: BehaviouralCloning, steps: int) -> list[LearnReport]:
    target = algorithm.timesteps + steps
    reports = []
    while algorithm.timesteps < target and not algorithm.is_done:
        reports.append(algorithm.update())
    return reports


def right_side(observation: Any) -> int:
    return int(observation[0] > 0)


def weights_of(algorithm: BehaviouralCloning) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in algorithm.network.parameters()]


def gradient_norm(algorithm: BehaviouralCloning) -> float:
    found = (parameter.grad for parameter in algorithm.network.parameters())
    return float(torch.cat([gradient.reshape(-1) for gradient in found if gradient is not None]).norm())


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


# Every kind of space

SEEN: dict[str, gym.Space[Any]] = {
    "vector": LINE,
    "choice": spaces.Discrete(4, start=2),
    "picture": spaces.Box(0, 255, (12, 12, 3), np.uint8),
    "dict": spaces.Dict({"eye": spaces.Box(0, 255, (2, 9, 9), np.uint8), "inner": spaces.Dict({"x": LINE})}),
    "tuple": spaces.Tuple([spaces.MultiBinary(3), spaces.MultiDiscrete([2, 3])]),
}
DONE: dict[str, gym.Space[Any]] = {
    "discrete": spaces.Discrete(3, start=-1),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-binary": spaces.MultiBinary(3),
    "box": spaces.Box(-2.0, 2.0, (2,), np.float32),
    "dict": spaces.Dict({"gear": spaces.Discrete(3), "steer": spaces.Box(-1.0, 1.0, (1,), np.float64)}),
}


@pytest.mark.parametrize("seen", list(SEEN))
@pytest.mark.parametrize("done", list(DONE))
def test_learns_from_any_observation_to_do_any_action(seen: str, done: str) -> None:
    network = PolicyNetworkConfig(hidden_sizes=(8,), image_features=8)
    algorithm = make(SEEN[seen], DONE[done], network, batch_size=8)
    episodes = recordings(SEEN[seen], DONE[done])
    algorithm.begin(episodes)
    algorithm.target_timesteps = 59 * 2
    before = weights_of(algorithm)

    metrics = [dict(report.metrics) for report in learn(algorithm, 59 * 2)][-1]

    assert not same(before, weights_of(algorithm))
    assert all(np.isfinite(value) for value in metrics.values())
    actions = algorithm.policy.act(map_tree(lambda leaf: leaf[:5], episodes[0].observations)).actions
    for row in range(5):
        assert DONE[done].contains(map_tree(lambda leaf, at=row: leaf[at], actions))


@pytest.mark.parametrize("box_loss", ["gaussian", "mse"])
def test_box_actions_come_in_their_own_units(box_loss: str) -> None:
    wide = spaces.Box(np.array([-50, 0], np.float32), np.array([50, 2], np.float32), dtype=np.float32)

    def rule(seen: Any) -> Any:
        return np.array([40 * seen[0], 1 + seen[1]], np.float32)

    episodes = recordings(LINE, wide, rule, (400, 400))
    algorithm = begun(episodes, box_loss=box_loss, learning_rate=1e-2, ent_weight=0.0)

    metrics = [dict(report.metrics) for report in learn(algorithm, 16_000)][-1]

    seen = episodes[0].observations[:100]
    found = algorithm.policy.act(seen, deterministic=True).actions
    assert np.abs(found - np.stack([rule(one) for one in seen])).mean(0) == pytest.approx([0, 0], abs=2.5)
    assert metrics["train/absolute_error"] < 2.5
    assert found.dtype == np.float32


def test_squared_error_is_that_of_scaled_actions() -> None:
    done = spaces.Box(-10.0, 10.0, (1,), np.float32)
    episodes = recordings(LINE, done, lambda _: np.array([5.0], np.float32))
    algorithm = begun(episodes, box_loss="mse", ent_weight=0.0, batch_size=59)
    before = algorithm.policy.act(episodes[0].observations[:-1], deterministic=True).actions
    assert np.abs(before).max() < 0.5
    loss = algorithm.update().metrics["train/loss"]
    assert loss == pytest.approx(0.5 * (5.0 / 10.0) ** 2, rel=0.1)


# What is minimised


@pytest.mark.parametrize("extra", [{}, {"class_weights": [3.0, 0.5]}], ids=["plain", "weighted"])
@pytest.mark.parametrize("ent_weight", [0.0, 0.1])
def test_one_step_is_that_of_automatic_differentiation_and_adam(extra: dict[str, Any], ent_weight: float) -> None:
    episodes = recordings(LINE, SIDES)
    algorithm = begun(episodes, batch_size=59, ent_weight=ent_weight, l2_weight=0.01, **extra)
    twin = make(ent_weight=ent_weight, **extra)
    optimizer = torch.optim.Adam(twin.network.parameters(), lr=1e-3)
    seen = torch.cat([torch.as_tensor(one.observations[:-1].copy()) for one in episodes])
    done = torch.cat([torch.as_tensor(one.actions.copy()) for one in episodes])
    policy: Any = torch.distributions.Categorical(logits=twin.network(seen))
    weights = torch.tensor(extra.get("class_weights", [1.0, 1.0]))[done]
    norm: Any = sum(parameter.square().sum() for parameter in twin.network.parameters()) / 2
    loss: Any = -(weights * policy.log_prob(done) + ent_weight * policy.entropy()).mean() + 0.01 * norm
    loss.backward()
    optimizer.step()

    report = algorithm.update()

    for found, expected in zip(algorithm.network.parameters(), twin.network.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert report.metrics["train/loss"] == pytest.approx(float(loss.detach()), rel=1e-3)


def blurred(episode: Episode) -> Episode:
    noise = 0.3 * np.random.default_rng(len(episode)).standard_normal(episode.observations.shape)
    seen = (episode.observations + noise).astype(np.float32)
    return Episode(observations=seen, actions=episode.actions, rewards=None, terminated=True)


def test_balanced_weights_find_rare_actions() -> None:
    rare = recordings(LINE, SIDES, lambda seen: int(seen[0] > 0.8 and seen[1] > -0.5), (400, 400))
    noisy = rare.map(blurred)
    recalls = {}
    for weights in (None, "balanced"):
        algorithm = make(class_weights=weights, learning_rate=1e-2)
        algorithm.begin(noisy)
        learn(algorithm, 16_000)
        seen = np.concatenate([one.observations[:-1] for one in noisy])
        is_rare = np.concatenate([one.actions for one in noisy]) == 1
        recalls[weights] = algorithm.policy.act(seen, deterministic=True).actions[is_rare].mean()
    assert recalls["balanced"] > 0.85
    assert recalls["balanced"] > recalls[None] + 0.15


def test_class_weights_by_action_count_from_where_the_space_does() -> None:
    algorithm = begun(recordings(LINE, spaces.Discrete(3, start=4)), class_weights={5: 2.5})
    assert algorithm._weights is not None
    assert algorithm._weights.tolist() == [1.0, 2.5, 1.0]


def test_gradients_are_cut() -> None:
    episodes = recordings(LINE, SIDES)
    free, cut = (begun(episodes, max_gradient_norm=limit) for limit in (None, 1e-3))
    for algorithm in (free, cut):
        algorithm.update()
    norms = [gradient_norm(algorithm) for algorithm in (free, cut)]
    assert norms[0] > 1e-2
    assert norms[1] == pytest.approx(1e-3, rel=1e-2)


def test_learning_rate_follows_its_schedule_over_the_run() -> None:
    algorithm = begun(recordings(LINE, SIDES), 590, learning_rate=LinearSchedule(1e-2, 0.0), batch_size=59)
    found = [report.metrics["train/learning_rate"] for report in learn(algorithm, 590)]
    assert found == pytest.approx(np.linspace(1e-2, 1e-3, 10))


# Numbers


def test_metrics_come_at_epochs_and_after_every_16_batches() -> None:
    episodes = recordings(LINE, SIDES, lengths=(400, 300))
    algorithm = begun(episodes, batch_size=10)
    due = [number for number, report in enumerate(learn(algorithm, 1400), start=1) if report.metrics]
    assert due == [16, 32, 48, 64, 70, 86, 102, 118, 134, 140]


def test_learning_curve_has_the_usual_names() -> None:
    algorithm = begun(recordings(LINE, SIDES), validation_fraction=0.4)
    report = [report for report in learn(algorithm, 200) if report.metrics][-1]
    measured = ("loss", "neg_log_prob", "entropy", "accuracy")
    others = {"train/epoch", "train/learning_rate"}
    assert set(report.metrics) == {f"{part}/{name}" for part in ("train", "validation") for name in measured} | others


def test_accuracy_rises_with_what_is_learned() -> None:
    algorithm = begun(recordings(LINE, SIDES, right_side, (200, 200)), learning_rate=1e-2, validation_fraction=0.5)
    reports = [report.metrics for report in learn(algorithm, 8000) if "validation/accuracy" in report.metrics]
    assert reports[0]["validation/loss"] > reports[-1]["validation/loss"]
    assert reports[-1]["validation/accuracy"] > 0.95


def test_a_loss_that_is_no_number_ends_the_run_with_advice() -> None:
    algorithm = begun(recordings(LINE, DONE["box"]), learning_rate=1e30, batch_size=8)
    with pytest.raises(RLFrameworkError, match="lower learning_rate"):
        learn(algorithm, 2000)


# Validation


def test_whole_episodes_are_set_apart_and_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = recordings(spaces.Discrete(1000), SIDES, lengths=[10] * 20)
    taken: list[int] = []
    algorithm = make(spaces.Discrete(1000), SIDES, validation_fraction=0.25, batch_size=10)
    prepare = algorithm._prepare

    def watched(pairs: Pairs) -> Any:
        taken.extend(pairs[0].tolist())
        return prepare(pairs)

    monkeypatch.setattr(algorithm, "_prepare", watched)
    algorithm.begin(episodes)
    for _ in range(15):
        algorithm.update()
    trained, validated = taken[:150], taken[150:]
    assert len(validated) == 50
    assert sorted(taken) == sorted(np.concatenate([one.observations[:-1] for one in episodes]).tolist())
    whole = [one.observations[:-1].tolist() for one in episodes]
    assert sum(set(one) <= set(validated) for one in whole) == 5
    assert sum(set(one) <= set(trained) for one in whole) == 15


def test_given_episodes_count_before_the_fraction() -> None:
    algorithm = make(validation_fraction=0.5, batch_size=59)
    algorithm.begin(recordings(LINE, SIDES), recordings(LINE, SIDES, lengths=(5,)))
    assert algorithm.update().timesteps == 59


def noise_that_is_learned_by_heart() -> tuple[EpisodeSequence, EpisodeSequence]:
    """Random actions: what is learned of them helps nowhere else, so validation soon gets worse."""
    return recordings(LINE, SIDES, lengths=(40,)), recordings(
        spaces.Box(-1.0, 1.0, (2,), np.float32), SIDES, lengths=(77,)
    )


def overfitted(**parameters: Any) -> tuple[BehaviouralCloning, list[float]]:
    network = PolicyNetworkConfig(hidden_sizes=(64, 64))
    algorithm = make(network=network, learning_rate=3e-3, patience=4, **parameters)
    algorithm.begin(*noise_that_is_learned_by_heart())
    reports = learn(algorithm, 100_000)
    return algorithm, [one.metrics["validation/loss"] for one in reports if "validation/loss" in one.metrics]


def test_early_stopping_ends_and_restores_the_best_weights() -> None:
    algorithm, losses = overfitted()
    assert algorithm.is_done
    assert len(losses) == losses.index(min(losses)) + 1 + 4
    assert f"has not been below {min(losses):.6g} for 4 epochs" in algorithm.stop_reason
    last = weights_of(algorithm)
    algorithm.finish()
    assert not same(last, weights_of(algorithm))
    algorithm._course.validated_at = None
    assert algorithm._validate()["validation/loss"] == min(losses)


def test_the_last_weights_stay_where_the_best_are_not_wanted() -> None:
    algorithm, _ = overfitted(restore_best=False)
    last = weights_of(algorithm)
    algorithm.finish()
    assert same(last, weights_of(algorithm))


def test_improvements_below_the_least_one_do_not_count() -> None:
    _, losses = overfitted(min_improvement=10.0)
    assert len(losses) == 5


def test_a_run_ends_with_a_validation_unless_there_was_one_just_now() -> None:
    algorithm = begun(recordings(LINE, SIDES, lengths=(40, 40)), validation_fraction=0.5, batch_size=16)
    learn(algorithm, 16)
    assert "validation/loss" in algorithm.finish()
    assert algorithm.finish() == {}


# State


@pytest.mark.parametrize("taken", [0, 1, 7, 30])
@pytest.mark.parametrize("kind", ["discrete", "box", "normalised"])
def test_goes_on_exactly_from_its_state(kind: str, taken: int) -> None:
    done = DONE["box"] if kind == "box" else SIDES
    episodes = recordings(LINE, done, lengths=(40, 30, 30))
    network = PolicyNetworkConfig(hidden_sizes=(8,), normalize_observations=kind == "normalised")
    options: dict[str, Any] = {"validation_fraction": 0.3, "class_weights": "balanced" if kind == "discrete" else None}
    options |= {"batch_size": 8, "max_gradient_norm": 0.5, "learning_rate": LinearSchedule(1e-2, 1e-4)}
    first = make(LINE, done, network, **options)
    first.begin(episodes)
    first.target_timesteps = 1000
    for _ in range(taken):
        first.update()
    state = first.state_dict()
    expected = [dict(first.update().metrics) for _ in range(40)]

    second = make(LINE, done, network, **{**options, "seed": 77})
    second.load_state_dict(state)
    second.begin(episodes, resumes=True)
    second.target_timesteps = 1000
    found = [dict(second.update().metrics) for _ in range(40)]

    assert found == expected
    assert same(weights_of(first), weights_of(second))
    assert leaves(first.state_dict()["course"]["batches"]) == leaves(second.state_dict()["course"]["batches"])


def test_an_interrupted_run_acts_by_the_best_weights_and_resumes_with_its_own() -> None:
    episodes, validation = noise_that_is_learned_by_heart()
    algorithm = make(network=PolicyNetworkConfig(hidden_sizes=(64, 64)), learning_rate=3e-3)
    algorithm.begin(episodes, validation)
    learn(algorithm, 4000)
    present = weights_of(algorithm)
    algorithm.pause()
    assert not same(present, weights_of(algorithm))
    other = make(network=PolicyNetworkConfig(hidden_sizes=(64, 64)), learning_rate=3e-3)
    other.load_state_dict(algorithm.state_dict())
    other.begin(episodes, validation, resumes=True)
    assert same(present, weights_of(other))


def test_another_run_has_another_order_and_a_fresh_validation() -> None:
    algorithm = begun(recordings(LINE, SIDES), validation_fraction=0.4, batch_size=8)
    learn(algorithm, 20)
    algorithm.finish()
    algorithm.detach()
    algorithm.begin(recordings(LINE, SIDES))
    assert algorithm._running().state_dict()["epoch"] == 1
    assert algorithm._course.stopping.best_loss is None


def test_the_same_seed_gives_the_same_weights_whatever_the_global_generator() -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        algorithm = begun(recordings(LINE, SIDES))
        learn(algorithm, 300)
        found.append(weights_of(algorithm))
    assert same(*found)


def test_normalisation_is_gathered_once_from_the_first_data() -> None:
    network = PolicyNetworkConfig(normalize_observations=True)
    algorithm = make(network=network)
    episodes = recordings(LINE, SIDES, lengths=(50, 50))
    algorithm.begin(episodes)
    part: Any = algorithm.network.encoder.parts[0]
    seen = np.concatenate([one.observations[:-1] for one in episodes])
    np.testing.assert_allclose(part.normalization.mean, seen.mean(0), rtol=1e-5)
    before = part.normalization.mean.clone()
    learn(algorithm, 200)
    algorithm.begin(recordings(spaces.Box(0.5, 1.0, (2,), np.float32), SIDES))
    assert torch.equal(part.normalization.mean, before)


# What is refused


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"batch_size": 0}, InvalidInputError, "batch_size .* from 1, got 0"),
        ({"batch_size": 1.5}, InvalidInputError, "batch_size"),
        ({"learning_rate": -1.0}, InvalidInputError, "learning_rate"),
        ({"learning_rate": "fast"}, InvalidInputError, "schedule"),
        ({"ent_weight": -1e-3}, InvalidInputError, "ent_weight"),
        ({"l2_weight": float("nan")}, InvalidInputError, "l2_weight"),
        ({"max_gradient_norm": 0.0}, InvalidInputError, "max_gradient_norm"),
        ({"box_loss": "mae"}, UnknownOptionError, "box_loss"),
        ({"class_weights": "balancd"}, UnknownOptionError, "Did you mean 'balanced'"),
        ({"class_weights": [1.0, -1.0]}, InvalidInputError, r"class_weights\[1\]"),
        ({"class_weights": {"left": 1.0}}, InvalidInputError, "an action in class_weights"),
        ({"class_weights": 2.0}, InvalidInputError, "class_weights must be"),
        ({"validation_fraction": 1.0}, InvalidInputError, r"\[0, 1\)"),
        ({"patience": 0}, InvalidInputError, "patience"),
        ({"seed": -1}, InvalidInputError, "seed"),
        ({"learning_rat": 1e-3}, UnknownOptionError, "Did you mean 'learning_rate'"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused(parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_config(BehaviouralCloningConfig, parameters)


@pytest.mark.parametrize("weights", ["balanced", [1.0, 1.0], {0: 1.0}], ids=["balanced", "list", "dict"])
def test_class_weights_are_refused_for_other_actions_than_discrete_ones(weights: Any) -> None:
    with pytest.raises(InvalidInputError, match="class_weights are for Discrete actions"):
        make(done=DONE["box"], class_weights=weights)


def test_class_weights_must_fit_the_actions() -> None:
    with pytest.raises(InvalidInputError, match="3 numbers, and there are 2 actions"):
        make(class_weights=[1.0, 1.0, 1.0])
    with pytest.raises(InvalidInputError, match="names the action 7"):
        make(class_weights={7: 1.0})


def test_patience_needs_validation() -> None:
    with pytest.raises(InvalidInputError, match="patience=3 needs something to validate with"):
        make(patience=3).begin(recordings(LINE, SIDES))


def test_one_episode_cannot_be_split() -> None:
    with pytest.raises(InvalidInputError, match="there is but one"):
        make(validation_fraction=0.2).begin(recordings(LINE, SIDES, lengths=(30,)))


def test_actions_outside_the_space_are_refused_wherever_they_are() -> None:
    episodes = recordings(LINE, spaces.Discrete(5), lengths=(300,))
    algorithm = make()
    algorithm.begin(episodes)
    with pytest.raises(SpaceError, match="outside the action space: there are 2 from 0 on"):
        algorithm.update()


def test_nothing_is_learned_before_it_begins() -> None:
    with pytest.raises(InvalidInputError, match="Call begin"):
        make().update()


def test_ten_episodes_of_a_controller_suffice_to_balance_the_pole() -> None:
    algorithm = begun(cart_pole_episodes(10), 60_000)
    learn(algorithm, 60_000)
    found = evaluate_policy(algorithm.policy, "CartPole-v1", 20, deterministic=True, seed=0)
    assert found.mean >= 475
