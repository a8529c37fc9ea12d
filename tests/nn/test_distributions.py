from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl_framework.core.trees import leaves, map_tree, select
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.nn.consecutive import Consecutive
from rl_framework.nn.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    Joint,
    MultiCategorical,
    PointEstimate,
    SquashedNormal,
    join_distributions,
)

distributions: Any = torch.distributions  # its functions have no types
LOGITS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
LOG_STD = torch.tensor([-1.0, 0.0, 0.5, 1.0])
MAKERS: dict[str, Callable[[Tensor], Distribution]] = {
    "categorical": Categorical,
    "masked": lambda outputs: Categorical(
        outputs, torch.tensor([[True, False, True, True]] * len(outputs)).to(outputs.device)
    ),
    "multi-categorical": lambda outputs: MultiCategorical(outputs, [3, 1]),
    "multi-categorical-alike": lambda outputs: MultiCategorical(outputs, [2, 2]),
    "bernoulli": Bernoulli,
    "gaussian": lambda outputs: DiagonalGaussian(outputs, LOG_STD.to(outputs)),
    "gaussian-in-units": lambda outputs: DiagonalGaussian(outputs, LOG_STD.to(outputs), log_unit=0.7),
    "gaussian-by-row": lambda outputs: DiagonalGaussian(outputs[:, :2], outputs[:, 2:]),
    "squashed": lambda outputs: SquashedNormal(outputs, LOG_STD.to(outputs) - 1.0, log_unit=0.7),
    "squashed-by-row": lambda outputs: SquashedNormal(outputs[:, :2], 0.25 * outputs[:, 2:]),
    "joint": lambda outputs: Joint({"a": Categorical(outputs[:, :2]), "b": (Bernoulli(outputs[:, 2:]),)}),
}
SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 6), st.integers(0, 2**16))


@pytest.fixture(params=list(MAKERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def distribution(name: str) -> Distribution:
    return MAKERS[name](LOGITS)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradient(outputs: Tensor, loss: Callable[[Distribution], Tensor], make: Callable[[Tensor], Distribution]) -> Tensor:
    own = outputs.clone().requires_grad_()
    loss(make(own)).backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
    assert own.grad is not None
    return own.grad


def test_one_number_per_row(distribution: Distribution) -> None:
    targets = distribution.sample()
    found = (distribution.log_prob(targets), distribution.entropy(), *distribution.log_prob_and_entropy(targets))
    assert [numbers.shape for numbers in (*found, distribution.kl(distribution))] == [(5,)] * 5


def test_nothing_is_more_probable_than_the_mode(distribution: Distribution) -> None:
    if isinstance(distribution, SquashedNormal):
        pytest.skip("its mode is the median")
    best = distribution.log_prob(distribution.mode())
    generator = seeded(1)
    for _ in range(20):
        assert (distribution.log_prob(distribution.sample(generator)) <= best + 1e-6).all()


def test_entropy_is_the_mean_negative_log_probability_of_samples(name: str) -> None:
    many = MAKERS[name](LOGITS.repeat(4000, 1))
    found = -many.log_prob(many.sample(seeded(2))).reshape(4000, 5).mean(0)
    torch.testing.assert_close(found, many.entropy()[:5], atol=0.1, rtol=0.0)


def test_divergence_is_the_mean_difference_of_log_probabilities(name: str) -> None:
    one, other = MAKERS[name](LOGITS.repeat(4000, 1)), MAKERS[name](LOGITS.repeat(4000, 1) * 0.5 + 0.2)
    samples = one.sample(seeded(2))
    found = (one.log_prob(samples) - other.log_prob(samples)).reshape(4000, 5).mean(0)
    torch.testing.assert_close(found, one.kl(other)[:5], atol=0.1, rtol=0.05)
    torch.testing.assert_close(one.kl(one), torch.zeros(20_000), atol=1e-6, rtol=0.0)


def test_the_same_generator_gives_the_same_samples(distribution: Distribution) -> None:
    one, other = (leaves(distribution.sample(seeded(3))) for _ in range(2))
    assert all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def test_samples_without_a_generator_follow_the_global_one(distribution: Distribution) -> None:
    samples = []
    for _ in range(2):
        torch.manual_seed(4)
        samples.append(leaves(distribution.sample()))
    assert all(torch.equal(first, second) for first, second in zip(*samples, strict=True))


def test_both_at_once_are_the_two_apart_and_so_are_their_gradients(name: str) -> None:
    outputs = LOGITS.double()
    targets = MAKERS[name](outputs).sample(seeded(5))
    weights = torch.randn(2, 5, generator=seeded(6), dtype=torch.float64)

    def apart(made: Distribution) -> Tensor:
        return (torch.stack([made.log_prob(targets), made.entropy()]) * weights).sum()

    def at_once(made: Distribution) -> Tensor:
        return (torch.stack(made.log_prob_and_entropy(targets)) * weights).sum()

    make = MAKERS[name]
    torch.testing.assert_close(at_once(make(outputs)), apart(make(outputs)))
    torch.testing.assert_close(gradient(outputs, at_once, make), gradient(outputs, apart, make))


def test_divergences_have_gradients(name: str) -> None:
    outputs, make = LOGITS.double(), MAKERS[name]
    fixed = make(outputs.flip(0))
    gradcheck: Any = torch.autograd.gradcheck
    assert gradcheck(lambda given: make(given).kl(fixed), (outputs.clone().requires_grad_(),))


@pytest.mark.parametrize("name", ["categorical", "bernoulli", "gaussian"])
def test_gradients_are_those_of_torch_distributions(name: str) -> None:
    twins: dict[str, Callable[[Tensor], Any]] = {
        "categorical": lambda outputs: distributions.Categorical(logits=outputs),
        "bernoulli": lambda outputs: distributions.Bernoulli(logits=outputs),
        "gaussian": lambda outputs: distributions.Normal(outputs, LOG_STD.exp()),
    }
    targets = MAKERS[name](LOGITS).sample(seeded(5))
    found, expected = (
        gradient(LOGITS, lambda made: made.log_prob(targets).sum() + 0.1 * made.entropy().sum(), make)
        for make in (MAKERS[name], twins[name])
    )
    torch.testing.assert_close(found, expected)


def test_nothing_waits_for_the_device(name: str) -> None:
    """Tensors without numbers refuse every question that the host asks."""
    made, other = (MAKERS[name](LOGITS.to("meta")) for _ in range(2))
    targets = made.sample()
    found = [*leaves(targets), *leaves(made.mode()), *made.log_prob_and_entropy(targets), made.kl(other)]
    assert all(tensor.device.type == "meta" and len(tensor) == 5 for tensor in found)


@given(SHAPES)
def test_squashed_normal_is_that_of_torch(shape: tuple[int, int, int]) -> None:
    rows, columns, seed = shape
    generator = seeded(seed)
    mean, log_std = torch.randn(2, rows, columns, generator=generator, dtype=torch.float64)
    base = distributions.Normal(mean, log_std.exp())
    twin = distributions.TransformedDistribution(base, distributions.TanhTransform())
    targets = 0.999 * (2.0 * torch.rand(rows, columns, generator=generator, dtype=torch.float64) - 1.0)
    found = SquashedNormal(mean, log_std, log_unit=0.3).log_prob(targets)
    torch.testing.assert_close(found, twin.log_prob(targets).sum(1) - 0.3)


def test_squashed_targets_at_the_bounds_have_finite_densities_and_gradients() -> None:
    targets = torch.tensor([[1.0, -1.0]] * 5)
    found = gradient(
        20.0 * LOGITS,
        lambda made: torch.stack(made.log_prob_and_entropy(targets)).sum(),
        MAKERS["squashed-by-row"],
    )
    assert torch.isfinite(found).all()
    samples = SquashedNormal(torch.tensor([[50.0, -50.0]]), torch.zeros(2)).sample()
    assert samples.abs().max() < 1.0


@given(SHAPES)
def test_masked_choices_count_for_nothing(shape: tuple[int, int, int]) -> None:
    """The slow twin knows only the choices that are allowed."""
    rows, columns, seed = shape
    generator = seeded(seed)
    logits = 5.0 * torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    masks = torch.rand(rows, columns, generator=generator) < 0.5
    masks[:, seed % columns] = True
    targets = Categorical(logits, masks).sample(generator)
    other = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    given_logits = logits.clone().requires_grad_()
    made = Categorical(given_logits, masks)
    log_prob, entropy = made.log_prob_and_entropy(targets)
    divergence = made.kl(Categorical(other, masks))
    (log_prob + 0.3 * entropy + 0.2 * divergence).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it so
    for row, allowed in enumerate(masks):
        expected_by = logits[row, allowed].clone().requires_grad_()
        twin = distributions.Categorical(logits=expected_by)
        chosen = allowed[: int(targets[row])].sum()
        assert bool(allowed[targets[row]])
        expected = (
            twin.log_prob(chosen),
            twin.entropy(),
            distributions.kl_divergence(twin, distributions.Categorical(logits=other[row, allowed])),
        )
        for ours, theirs in zip((log_prob, entropy, divergence), expected, strict=True):
            torch.testing.assert_close(ours[row], theirs)
        (expected[0] + 0.3 * expected[1] + 0.2 * expected[2]).backward()
        assert given_logits.grad is not None
        torch.testing.assert_close(given_logits.grad[row, allowed], expected_by.grad)
        assert not given_logits.grad[row, ~allowed].any()


def test_masked_bits_count_for_nothing() -> None:
    masks = torch.tensor([[True, True, False, True, True, False]])
    outputs = torch.tensor([[0.3, 0.4, 0.5]], requires_grad=True)
    made = Bernoulli(outputs, masks)
    log_prob, entropy = made.log_prob_and_entropy(torch.tensor([[1.0, 1.0, 0.0]]))
    twin = distributions.Bernoulli(logits=torch.tensor(0.3))
    torch.testing.assert_close(
        torch.cat((log_prob, entropy)), torch.stack((twin.log_prob(torch.tensor(1.0)), twin.entropy()))
    )
    torch.testing.assert_close(made.kl(made), torch.zeros(1))
    (log_prob + entropy).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it so
    assert outputs.grad is not None
    assert outputs.grad[0, 0] != 0.0
    assert not outputs.grad[0, 1:].any()


@pytest.mark.parametrize(
    ("make", "width", "nothing"),
    [
        (lambda masks: Categorical(LOGITS, masks), 4, slice(0, 4)),
        (lambda masks: MultiCategorical(LOGITS, [1, 3], masks), 4, slice(1, 4)),
        (lambda masks: MultiCategorical(LOGITS, [2, 2], masks), 4, slice(0, 2)),
        (lambda masks: Bernoulli(LOGITS, masks), 8, slice(4, 6)),
    ],
)
def test_masks_that_allow_nothing_or_have_another_shape_are_refused(
    make: Callable[[Tensor], Distribution], width: int, nothing: slice
) -> None:
    masks = torch.ones(5, width, dtype=torch.bool)
    assert torch.isfinite(make(masks).entropy()).all()
    masks[3, nothing] = False
    with pytest.raises(SpaceError, match="row 3 allows none"):
        make(masks)
    with pytest.raises(SpaceError, match=r"got \[5, 3\]"):
        make(torch.ones(5, 3, dtype=torch.bool))


@pytest.mark.parametrize("rows", [1, 20_000])
def test_choices_are_sampled_as_often_as_they_are_probable(rows: int) -> None:
    probs = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.04, 0.009, 0.001])
    made = Categorical((probs.log() - 3.0).repeat(rows, 1))
    generator = seeded(0)
    samples = torch.cat([made.sample(generator) for _ in range(20_000 // rows)])
    assert chi_square(torch.bincount(samples, minlength=7), probs) < 22.5  # the 99.9th percentile for 6 degrees


def test_bits_are_sampled_as_often_as_they_are_probable() -> None:
    probs = torch.tensor([0.9, 0.5, 0.02])
    bits = Bernoulli(torch.logit(probs).repeat(20_000, 1)).sample(seeded(0))
    for ones, prob in zip(bits.sum(0), probs, strict=True):
        assert chi_square(torch.stack((ones, 20_000 - ones)), torch.stack((prob, 1.0 - prob))) < 10.8  # 1 degree


def test_normal_numbers_fall_as_often_into_tenths_as_they_should() -> None:
    mean, log_std = torch.tensor([1.0, -2.0]), torch.tensor([0.5, -1.0])
    numbers = DiagonalGaussian(mean.repeat(20_000, 1), log_std).sample(seeded(0))
    tenths = (distributions.Normal(mean, log_std.exp()).cdf(numbers) * 10).long()
    squashed = SquashedNormal(mean.repeat(20_000, 1), log_std).sample(seeded(0))
    torch.testing.assert_close(squashed, numbers.tanh())
    for column in tenths.T:
        assert chi_square(torch.bincount(column, minlength=10), torch.full((10,), 0.1)) < 27.9  # 9 degrees


def chi_square(counts: Tensor, probs: Tensor) -> float:
    expected = probs * counts.sum()
    return float(((counts - expected).square() / expected).sum())


def test_normalised_log_probabilities_are_computed_once_and_keep_their_gradient() -> None:
    outputs = LOGITS.clone().requires_grad_()
    made = Categorical(outputs)
    with torch.no_grad():
        read = made.log_probs
        assert made.log_probs is read
    made.log_probs[:, 0].sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
    assert outputs.grad is not None
    assert outputs.grad.any()
    assert made.log_probs is made.log_probs


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_outputs_in_half_precision_are_taken_as_single(name: str, half: torch.dtype) -> None:
    outputs = LOGITS.to(half)
    made, exact = MAKERS[name](outputs), MAKERS[name](outputs.float())
    targets = exact.sample(seeded(0))
    for found, expected in zip(made.log_prob_and_entropy(targets), exact.log_prob_and_entropy(targets), strict=True):
        assert torch.equal(found, expected)


def test_density_is_that_of_the_action_in_its_own_units() -> None:
    unit = torch.tensor([2.0, 5.0])
    mean, log_std = torch.randn(3, 2), torch.tensor([0.1, -0.3])
    ours = DiagonalGaussian(mean, log_std, log_unit=float(unit.log().sum()))
    actions = torch.randn(3, 2) * unit
    theirs = distributions.Normal(mean * unit, log_std.exp() * unit)
    torch.testing.assert_close(ours.log_prob(actions / unit), theirs.log_prob(actions).sum(1))
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(1))


def test_point_estimates_never_spread_and_cost_half_the_squared_error() -> None:
    mean = torch.tensor([[1.0, 2.0]])
    estimate = PointEstimate(mean)
    assert torch.equal(estimate.sample(), mean)
    assert estimate.log_prob(torch.tensor([[0.0, 4.0]])).tolist() == [-2.5]
    assert estimate.entropy().tolist() == [0.0]
    assert estimate.kl(PointEstimate(torch.tensor([[0.0, 4.0]]))).tolist() == [2.5]


class Certain(Distribution):
    """A distribution of a user's own, with the four methods that it must have."""

    def log_prob(self, targets: Tensor) -> Tensor:
        return torch.where(targets == 0, 0.0, -torch.inf)

    def entropy(self) -> Tensor:
        return torch.zeros(2)

    def mode(self) -> Tensor:
        return torch.zeros(2)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return torch.zeros(2)


def test_own_distributions_get_the_other_methods() -> None:
    log_prob, entropy = Certain().log_prob_and_entropy(torch.tensor([0.0, 1.0]))
    assert (log_prob.tolist(), entropy.tolist()) == ([0.0, -torch.inf], [0.0, 0.0])
    with pytest.raises(InvalidInputError, match=r"Write its method kl\(other\)"):
        Certain().kl(Certain())
    with pytest.raises(InvalidInputError, match=r"Write its method rows\(index\)"):
        Certain().rows(slice(1))
    with pytest.raises(InvalidInputError, match=r"Write its method joined\(others\)"):
        join_distributions([Certain(), Certain()])


def test_divergences_between_kinds_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="same kind, got DiagonalGaussian and SquashedNormal"):
        DiagonalGaussian(LOGITS, LOG_STD).kl(SquashedNormal(LOGITS, LOG_STD))


ROWS: list[Any] = [torch.tensor([3, 0, 3]), torch.tensor([True, False, False, True, True]), slice(1, 4)]


@pytest.mark.parametrize("index", ROWS, ids=["numbers", "mask", "slice"])
def test_chosen_rows_are_those_of_the_whole(distribution: Distribution, index: Tensor | slice) -> None:
    targets = distribution.sample(seeded(3))
    whole = (distribution.log_prob(targets), distribution.entropy(), distribution.kl(distribution))
    chosen, its_targets = distribution.rows(index), select(targets, index)
    found = (chosen.log_prob(its_targets), chosen.entropy(), chosen.kl(chosen))
    assert type(chosen) is type(distribution)
    for ours, theirs in zip(found, whole, strict=True):
        torch.testing.assert_close(ours, theirs[index])


def test_joined_distributions_are_their_rows_in_order(name: str) -> None:
    other_outputs = torch.randn(3, 4, generator=seeded(4))
    parts = [MAKERS[name](LOGITS), MAKERS[name](other_outputs)]
    targets = [part.sample(seeded(5)) for part in parts]
    joined, consecutive = join_distributions(parts), Consecutive(parts, [5, 3]).rows(slice(None))
    both = map_tree(lambda *leaf: torch.cat(leaf), *targets)
    for whole in (joined, consecutive):
        expected = torch.cat([part.log_prob(its) for part, its in zip(parts, targets, strict=True)])
        torch.testing.assert_close(whole.log_prob(both), expected)
        torch.testing.assert_close(whole.entropy(), torch.cat([part.entropy() for part in parts]))


def test_gradients_reach_what_joined_and_chosen_rows_were_made_of(name: str) -> None:
    targets = MAKERS[name](LOGITS).sample(seeded(6))
    whole = gradient(LOGITS, lambda one: one.log_prob(targets).sum(), MAKERS[name])
    parts = gradient(
        LOGITS, lambda one: join_distributions([one]).rows(slice(None)).log_prob(targets).sum(), MAKERS[name]
    )
    torch.testing.assert_close(parts, whole)


def test_joining_copies_so_that_an_optimiser_changes_nothing_of_it() -> None:
    mean, log_std = torch.zeros(2, 3), torch.zeros(3)
    one, several = DiagonalGaussian(mean, log_std), DiagonalGaussian(mean, log_std)
    kept = [join_distributions([one]), join_distributions([one, several])]
    log_std += 1.0
    mean += 1.0
    for joined in kept:
        assert isinstance(joined, DiagonalGaussian)
        assert joined.mean.sum() == joined.log_std.sum() == 0.0


def test_numbers_that_stand_for_all_rows_are_kept_apart_where_they_differ() -> None:
    joined = join_distributions([DiagonalGaussian(torch.zeros(2, 1), torch.tensor([float(at)])) for at in range(2)])
    assert isinstance(joined, DiagonalGaussian)
    assert joined.log_std.tolist() == [[0.0], [0.0], [1.0], [1.0]]


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one"):
        join_distributions([])
    with pytest.raises(InvalidInputError, match="same kind, got Categorical and Bernoulli"):
        join_distributions([Categorical(LOGITS), Bernoulli(LOGITS)])


@pytest.mark.parametrize("shape", [(1, 2), (8, 2), (5, 7), (64, 3)])
def test_noise_of_many_steps_is_that_of_one_after_the_other(shape: tuple[int, int]) -> None:
    at_once, in_turn = (torch.Generator().manual_seed(4) for _ in range(2))
    logits = torch.randn(9, *shape)
    for make in (Categorical, lambda step: MultiCategorical(step.repeat(1, 2), (shape[1], shape[1]))):
        noise = make(logits[0]).noise(9, at_once)
        assert noise is not None
        for step, drawn in zip(logits, noise, strict=True):
            assert torch.equal(make(step).sample_by(drawn), make(step).sample(in_turn))
        assert torch.equal(at_once.get_state(), in_turn.get_state())


def test_distributions_that_draw_nothing_beforehand_say_so() -> None:
    bits = Bernoulli(torch.zeros(2, 3))
    assert bits.noise(4, torch.Generator()) is None
    with pytest.raises(InvalidInputError, match="draws nothing beforehand"):
        bits.sample_by(torch.zeros(2, 3))
