"""What is captured does what it does without, bit for bit; and what cannot be captured goes on, and says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.algorithms.capturable_optimizers import (
    load_plain_state,
    make_capturable,
    plain_state,
    set_learning_rate,
)
from rl_framework.algorithms.compiled_model import CompiledModel
from rl_framework.algorithms.cuda_graphs import WARM_UP_CALLS, CapturedFunction, CudaGraphBackend, GraphBackend
from rl_framework.algorithms.host_access import HostAccess, HostAccessRefused
from rl_framework.algorithms.learner_snapshot import LearnerSnapshot
from rl_framework.algorithms.ppo import PPO
from rl_framework.algorithms.ppo_config import PPOConfig
from rl_framework.algorithms.tensor_records import map_tensors, tensors_in
from rl_framework.core.trees import Tree
from rl_framework.envs.tensor_env import Device
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.envs.tensor_tasks.drive_to_origin import DiscreteDummyEnv
from rl_framework.errors import TrainingDivergedError
from rl_framework.nn.action_heads import ActionHead
from rl_framework.nn.model import Model, ModelOutput
from tests.algorithms.replay_backend import NotRepeatable, ReplayBackend

Learner = TypeVar("Learner", bound=PPO)

CPU = torch.device("cpu")
HORIZON, ROWS = 8, 4


class _Elsewhere:
    """A task that does on the CPU what it does on a GPU: it never looks at a number."""

    _looks: bool
    is_capturable: bool

    def _settle(self, n_envs: int, device: Device) -> None:
        super()._settle(n_envs, device)  # type: ignore[misc]  # that of the task
        self._looks, self.is_capturable = False, True


class CapturableCartPole(_Elsewhere, CartPole):
    pass


class CapturableDummy(_Elsewhere, DiscreteDummyEnv):
    pass


class GraphedPPO(PPO):
    backend: ReplayBackend

    def _graph_backend(self) -> GraphBackend | None:
        self.backend = ReplayBackend()
        return self.backend


@pytest.fixture(autouse=True)
def _like_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all that asks for the kind of device do what it does on a GPU."""
    monkeypatch.setattr("rl_framework.rollouts.step_recorder.can_look", lambda device: False)
    for kernel in ("lstm_kernel", "gru_kernel", "recurrent_cores"):
        monkeypatch.setattr(f"rl_framework.nn.{kernel}.suits_kernels", lambda features, weights: False)


def settings(**changes: Any) -> dict[str, Any]:
    """Small ones. Learning rates are powers of two, which a tensor of float32 holds as exactly as Python does."""
    network = changes.pop("network", {})
    network = None if network is None else {"hidden_sizes": (8,), "memory_size": 8, "window": 3, **network}
    own = {"horizon": HORIZON, "seed": 0, "device": "cpu", "epochs": 2, "network": network, "learning_rate": 2.0**-7}
    return {**own, **changes}


def made(kind: type[Learner], env: type[CartPole | DiscreteDummyEnv], **changes: Any) -> Learner:
    return kind(env(ROWS, max_episode_steps=5), PPOConfig(**settings(**changes)))


def run(ppo: PPO, n_updates: int, target: int = 0) -> list[Any]:
    """Everything that is reported of some rounds."""
    ppo.begin(ppo.environments.reset(3), timesteps=0, target_timesteps=target)
    return [(ppo.collect(), ppo.update()) for _ in range(n_updates)]


def weights(ppo: PPO) -> Tensor:
    tensors = [*ppo.model.parameters(), *ppo.model.buffers()]
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors])


def same_reports(ours: list[Any], theirs: list[Any]) -> bool:
    plain = [[(list(c.episodes), c.timesteps, c.metrics, u.metrics) for c, u in reports] for reports in (ours, theirs)]
    return bool(plain[0] == plain[1])


SCHEDULES: dict[str, Any] = {
    "learning_rate": {"kind": "linear", "initial": 2.0**-6, "final": 0.0},
    "entropy_coefficient": {"kind": "linear", "initial": 0.5, "final": 0.0},
    "clip_range": {"kind": "linear", "initial": 0.5, "final": 0.125},
}


def assert_same(graphed: PPO, plain: PPO, n_updates: int = 5) -> None:
    """Both learn the same, bit for bit, and report the same."""
    target = 8 * HORIZON * ROWS
    reports = run(graphed, n_updates, target), run(plain, n_updates, target)
    assert torch.equal(weights(graphed), weights(plain))
    assert same_reports(*reports)
    assert torch.equal(graphed.generator.get_state(), plain.generator.get_state())


class TestPPO:
    """With the imitation of graphs that refuses whatever a graph cannot do."""

    @pytest.mark.parametrize(
        ("env", "memory"),
        [(CapturableCartPole, None), (CapturableDummy, "lstm"), (CapturableCartPole, "attention")],
    )
    def test_captured_is_as_not_captured_bit_for_bit(self, env: Any, memory: str | None) -> None:
        changes = {
            **SCHEDULES,
            "normalize_rewards": "running",
            "network": {"memory": memory, "normalize_observations": True},
            "sequence_length": 4 if memory else None,
        }
        graphed = made(GraphedPPO, env, **changes)
        assert_same(graphed, made(PPO, env, **changes), n_updates=5)
        assert graphed.backend.replays == [5 - WARM_UP_CALLS] * 2
        assert all(graphed.generator in generators for generators in graphed.backend.generators)
        assert graphed.environments.generators[0] in graphed.backend.generators[0]

    @pytest.mark.parametrize("target_kl", [None, 1e-3])
    def test_a_long_update_or_one_that_may_end_is_captured_step_by_step(
        self, target_kl: float | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rl_framework.algorithms.ppo.MOST_PASSES", 1 if target_kl is None else 64)
        changes = {**SCHEDULES, "target_kl": target_kl}
        graphed, plain = made(GraphedPPO, CapturableCartPole, **changes), made(PPO, CapturableCartPole, **changes)
        assert_same(graphed, plain, n_updates=3)
        searches, steps, rollouts = graphed.backend.replays
        assert rollouts == 3 - WARM_UP_CALLS
        n_steps = 3 * 2 * 4 - WARM_UP_CALLS
        assert (searches, steps) == (n_steps, n_steps) if target_kl is None else n_steps > searches > steps > 0

    def test_where_environments_cannot_be_captured_the_update_is(self) -> None:
        graphed, plain = made(GraphedPPO, CartPole), made(PPO, CartPole)
        assert_same(graphed, plain, n_updates=4)
        assert graphed.backend.replays == [4 - WARM_UP_CALLS]

    def test_where_an_optimiser_cannot_be_captured_the_rollout_is(self, caplog: pytest.LogCaptureFixture) -> None:
        graphed = made(GraphedPPO, CapturableCartPole, optimizer="Adagrad")
        assert_same(graphed, made(PPO, CapturableCartPole, optimizer="Adagrad"), n_updates=3)
        assert graphed.backend.replays == [3 - WARM_UP_CALLS]
        assert [record.getMessage() for record in caplog.records] == [
            "The update of PPO with ActorCritic runs without a CUDA graph: Adagrad cannot be captured."
        ]

    def test_sgd_with_momentum_is_captured(self) -> None:
        changes = {**SCHEDULES, "optimizer": "SGD", "optimizer_parameters": {"momentum": 0.9}}
        graphed = made(GraphedPPO, CapturableCartPole, **changes)
        assert_same(graphed, made(PPO, CapturableCartPole, **changes), n_updates=4)
        assert graphed.backend.replays == [4 - WARM_UP_CALLS] * 2

    @pytest.mark.parametrize("where", ["act", "learn"])
    def test_a_model_that_looks_at_numbers_goes_on_and_says_so(
        self, where: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        changes = {**SCHEDULES, "network": None, "model": Looking, "model_parameters": {"where": where}}
        graphed = made(GraphedPPO, CapturableCartPole, **changes)
        assert_same(graphed, made(PPO, CapturableCartPole, **changes))
        what, other = ("rollout", "update") if where == "act" else ("update", "rollout")
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == 1
        assert messages[0].startswith(f"The {what} of PPO with Looking runs without a CUDA graph, which is slower")
        assert "aten::_local_scalar_dense waits for the device, at" in messages[0]
        assert "hidden.sum() > 1e9" in messages[0]
        assert other not in messages[0]
        assert graphed.backend.replays == [5 - WARM_UP_CALLS]

    def test_a_capture_that_fails_leaves_no_trace(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(backend: ReplayBackend, function: Callable[[], Any], generators: Any) -> Any:
            function()
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

        monkeypatch.setattr(ReplayBackend, "capture", fail)
        changes = {**SCHEDULES, "network": {"memory": "gru"}, "sequence_length": 4}
        graphed = made(GraphedPPO, CapturableCartPole, **changes)
        assert_same(graphed, made(PPO, CapturableCartPole, **changes), n_updates=4)
        reason = "(RuntimeError: operation not permitted when stream is capturing)"
        assert [record.getMessage().endswith(reason) for record in caplog.records] == [True, True]

    def test_a_spoilt_update_is_undone_and_graphs_are_made_anew(self) -> None:
        graphed, plain = made(GraphedPPO, CapturableCartPole), made(PPO, CapturableCartPole)
        for ppo in (graphed, plain):
            run(ppo, 3)
            ppo.collect()
            good = weights(ppo)
            assert ppo._rollout is not None
            ppo._rollout.rewards[2, 1] = float("nan")
            with pytest.raises(TrainingDivergedError, match="train/loss became nan in update 4"):
                ppo.update()
            assert torch.equal(weights(ppo), good)
            for _ in range(4):
                ppo.collect()
                ppo.update()
        assert torch.equal(weights(graphed), weights(plain))
        assert graphed.backend.replays == [1 + 1, 1 + 1, 4 - WARM_UP_CALLS, 4 - WARM_UP_CALLS]

    @pytest.mark.parametrize("kinds", [(GraphedPPO, PPO), (PPO, GraphedPPO)])
    def test_saved_with_or_without_graphs_it_goes_on_with_or_without(self, kinds: tuple[type[PPO], type[PPO]]) -> None:
        changes = {**SCHEDULES, "normalize_rewards": "running", "minibatch_size": None}
        first = made(kinds[0], CapturableCartPole, **changes)
        run(first, 3, 8 * HORIZON * ROWS)
        state = map_tensors(torch.clone, (first.state_dict(), first.environments.state_dict()))
        assert type(state[0]["optimizer"]["param_groups"][0]["lr"]) is float
        second = made(kinds[1], CapturableCartPole, **changes)
        second.load_state_dict(state[0])
        observations = second.environments.load_state_dict(state[1])
        second.begin(observations, timesteps=3 * HORIZON * ROWS, target_timesteps=8 * HORIZON * ROWS, resumes=True)
        for ppo in (first, second):
            for _ in range(3):
                ppo.collect()
                ppo.update()
        assert torch.equal(weights(first), weights(second))

    def test_a_captured_rollout_knows_its_place_and_what_ended_in_it(self) -> None:
        ppo = made(GraphedPPO, CapturableCartPole)
        run(ppo, 3)
        before = ppo.position.map(torch.clone)
        ppo.collect()
        second = ppo._rollout
        assert second is not None
        assert second.next is not None
        assert (second.first_step, second.next.step, second.next.stream) == (24, 32, before.stream)
        assert second.stream is before.stream
        lengths = sum(episode.length for episode in second.episodes) + int(second.next.episode_lengths.sum())
        assert lengths == HORIZON * ROWS + int(before.episode_lengths.sum())
        assert len(second.episodes) == int(second.ended.sum()) > 0

    def test_on_the_cpu_the_options_are_without_effect(self) -> None:
        ppo = made(PPO, CapturableCartPole, compile=True, cuda_graphs=True)
        assert ppo.computed_model is ppo.model
        assert run(ppo, 1)[0][1].metrics["train/updates"] == 1.0


class Looking(Model):
    """A model that asks for a number on the host, while it acts or while it learns."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], where: str) -> None:
        super().__init__(observation_space, action_space)
        self.hidden = nn.Linear(4, 8)
        self.head = ActionHead(8, action_space)
        self.value = nn.Linear(8, 1)
        self.where = where

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        hidden = torch.tanh(self.hidden(observations))
        if torch.is_grad_enabled() is (self.where == "learn") and hidden.sum() > 1e9:
            hidden = hidden * 0.0
        distribution = self.head.distribution(self.head(hidden), masks)
        return ModelOutput(distribution, self.value(hidden).squeeze(1))


@dataclass
class Pair:
    left: Tensor
    right: list[Tensor | None]
    name: str = "pair"


class Nothing:
    """A snapshot of nothing."""

    def put_back(self) -> None:
        return


def _nothing() -> Any:
    return Nothing()


def captured(function: Callable[..., Any], backend: Any = None, **options: Any) -> CapturedFunction[Any]:
    return CapturedFunction(
        function, "It", backend or ReplayBackend(), **{"generators": (), "snapshot": _nothing, **options}
    )


class TestCapturedFunction:
    def test_it_is_called_as_it_is_until_it_is_captured(self) -> None:
        backend = ReplayBackend()
        double = captured(lambda pair: Pair(pair.left * 2, [None, pair.right[0] + 0]), backend)
        for number in range(WARM_UP_CALLS + 3):
            assert double.is_captured is (number > WARM_UP_CALLS)
            result = double(Pair(torch.full((2,), float(number)), [torch.arange(3)]))
            assert result.left.tolist() == [2.0 * number] * 2
            assert result.right[0] is None
            assert result.right[1].tolist() == [0, 1, 2]
            assert result.name == "pair"
        assert backend.replays == [3]

    def test_results_lie_where_they_lay(self) -> None:
        double = captured(lambda x: x * 2)
        results = [double(torch.tensor([float(number)])) for number in range(5)]
        assert [result.item() for result in results] == [0.0, 2.0, 8.0, 8.0, 8.0]

    def test_arguments_are_copied_unless_they_are_adopted(self) -> None:
        for adopts in (False, True):
            double = captured(lambda x: x * 2, adopts=adopts)
            given = [torch.tensor([float(number)]) for number in range(5)]
            assert [double(x).item() for x in given] == [0.0, 2.0, 4.0, 6.0, 8.0]
            assert [x.item() for x in given] == ([0.0, 1.0, 4.0, 3.0, 4.0] if adopts else [0.0, 1.0, 2.0, 3.0, 4.0])

    def test_arguments_of_another_shape_begin_anew(self) -> None:
        backend = ReplayBackend()
        double = captured(lambda x: x * 2, backend)
        for size in (1, 1, 1, 1, 3, 3, 3, 3):
            assert double(torch.ones(size)).tolist() == [2.0] * size
        assert backend.replays == [2, 2]

    def test_generators_are_named_to_the_backend(self) -> None:
        backend, generator = ReplayBackend(), torch.Generator()
        draw = CapturedFunction(
            lambda: torch.rand(2, generator=generator), "It", backend, generators=(generator,), snapshot=_nothing
        )
        numbers = [draw().tolist() for _ in range(4)]
        expected = torch.Generator()
        expected.set_state(torch.Generator().get_state())
        assert numbers == [torch.rand(2, generator=expected).tolist() for _ in range(WARM_UP_CALLS)] + numbers[2:]
        assert backend.generators == [(generator,)]


class TestSnapshot:
    def test_everything_is_put_back(self) -> None:
        model, generator, env = nn.Linear(4, 1), torch.Generator().manual_seed(0), CapturableCartPole(2)
        optimizer = torch.optim.Adam(model.parameters())
        observations = env.reset(0)

        def work() -> None:
            inputs = env.step(torch.randint(2, (2,))).observations + torch.rand(4, generator=generator)
            model(inputs).sum().backward()
            optimizer.step()

        def everything() -> list[Tensor]:
            states = model.state_dict(), optimizer.state_dict(), env.state_dict()
            return [tensor.clone() for tensor in tensors_in((states, generator.get_state(), torch.get_rng_state()))]

        assert observations.shape == (2, 4)
        work()
        before, snapshot = everything(), LearnerSnapshot(model, optimizer, (generator,), env)
        work()
        changed = [not torch.equal(old, new) for old, new in zip(before, everything(), strict=True)]
        assert sum(changed) > len(changed) - 4
        snapshot.put_back()
        assert all(torch.equal(old, new) for old, new in zip(before, everything(), strict=True))
        assert all(parameter.grad is None for parameter in model.parameters())


class Remembering:
    """Keeps between calls what a graph cannot: a number, or a tensor that is made anew."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.number = 1.0
        self.tensor = torch.ones(2)

    def __call__(self, x: Tensor) -> Tensor:
        if self.kind == "number":
            self.number += 1.0
            return x * self.number
        if self.kind == "tensor":
            self.tensor = self.tensor + x
            return self.tensor * 1.0
        self.tensor += x
        return self.tensor * 1.0


class TestImitation:
    @pytest.mark.parametrize("kind", ["number", "tensor"])
    def test_what_a_graph_would_not_notice_is_an_error(self, kind: str) -> None:
        remembering = captured(Remembering(kind))
        for _ in range(WARM_UP_CALLS + 1):
            remembering(torch.ones(2))
        with pytest.raises(NotRepeatable):
            remembering(torch.ones(2))

    def test_what_stays_in_its_memory_is_none(self) -> None:
        remembering = captured(Remembering("memory"), snapshot=_nothing)
        results = [remembering(torch.ones(2))[0].item() for _ in range(WARM_UP_CALLS + 2)]
        assert results == [2.0, 3.0, 5.0, 6.0]  # the rehearsal took a step that nobody put back

    def test_numbers_of_the_host_are_an_error(self) -> None:
        made_of_list = captured(lambda x: x * torch.tensor([1.0, 2.0]))
        for _ in range(WARM_UP_CALLS + 1):
            assert made_of_list(torch.ones(2)).tolist() == [1.0, 2.0]
        assert not made_of_list.is_captured


MASK = torch.tensor([True, False])


class TestHostAccess:
    @pytest.mark.parametrize(
        "look",
        [
            lambda x: bool(x.any()),
            lambda x: float(x.sum()),
            lambda x: x.nonzero(),
            lambda x: x[MASK],
            lambda x: x.clone().index_put_((MASK,), x[:1]),
            lambda x: torch.masked_select(x, MASK),
            lambda x: torch.unique(x)[0],
            lambda x: torch.equal(x, x),
            lambda x: torch.tensor([1.0, 2.0]),
            lambda x: x.repeat_interleave(torch.ones_like(x).long()),
            lambda x: x.to("meta"),
            lambda x: x.copy_(torch.zeros(2, device="meta")),
            lambda x: torch.add(x, x, alpha=x[0]),
        ],
    )
    def test_what_waits_or_copies_is_refused(self, look: Callable[[Tensor], Any]) -> None:
        x = torch.ones(2)
        with HostAccessRefused(CPU), pytest.raises(HostAccess, match=r"aten::.* at .*test_cuda_graphs.py:\d+ \(lambda"):
            look(x)

    @pytest.mark.parametrize(
        "work",
        [
            lambda x: torch.where(MASK, x, 0.0),
            lambda x: x.masked_fill(MASK, 1.0),
            lambda x: x.index_put_((MASK,), torch.scalar_tensor(2.0)),
            lambda x: x[torch.arange(2)],
            lambda x: x.to(torch.float64),
            lambda x: x.copy_(x + 1),
            lambda x: torch.randperm(4),
            lambda x: x.repeat_interleave(torch.ones_like(x).long(), output_size=2),
            lambda x: torch.nn.utils.clip_grad_norm_([nn.Parameter(x)], 1.0),
            lambda x: torch.autograd.backward(nn.Parameter(x).square().sum()),
        ],
    )
    def test_work_on_tensors_is_not(self, work: Callable[[Tensor], Any]) -> None:
        with HostAccessRefused(CPU):
            work(torch.ones(2))

    def test_backward_passes_are_watched_too(self) -> None:
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        y.register_hook(lambda gradient: gradient * float(gradient.sum()))  # type: ignore[no-untyped-call]  # torch's
        with HostAccessRefused(CPU), pytest.raises(HostAccess, match="waits for the device"):
            torch.autograd.backward(y.sum())


class TestOptimizers:
    @pytest.mark.parametrize(
        ("kind", "options", "expected"),
        [
            (torch.optim.Adam, {"fused": True}, True),
            (torch.optim.RMSprop, {}, True),
            (torch.optim.SGD, {"fused": True}, True),
            (torch.optim.Adagrad, {}, False),
        ],
    )
    def test_those_that_can_be_captured(self, kind: Any, options: dict[str, Any], expected: bool) -> None:
        optimizer = kind([nn.Parameter(torch.ones(2))], lr=0.5, **options)
        assert make_capturable(optimizer, CPU) is expected
        group = optimizer.param_groups[0]
        assert isinstance(group["lr"], Tensor) is expected
        assert float(group["lr"]) == 0.5
        assert group.get("capturable", expected) is expected
        place = group["lr"]
        set_learning_rate(optimizer, 0.25)
        assert float(group["lr"]) == 0.25
        assert (group["lr"] is place) is expected

    @pytest.mark.parametrize("captures", [(True, False), (False, True)])
    def test_states_fit_optimisers_of_either_kind(self, captures: tuple[bool, bool]) -> None:
        parameters = [nn.Parameter(torch.ones(2)) for _ in range(2)]
        optimizers = [torch.optim.Adam([parameter], lr=0.5, fused=True) for parameter in parameters]
        for optimizer, is_captured in zip(optimizers, captures, strict=True):
            if is_captured:
                make_capturable(optimizer, CPU)
        parameters[0].grad = torch.ones(2)
        optimizers[0].step()
        with torch.no_grad():
            parameters[1].copy_(parameters[0])
        load_plain_state(optimizers[1], deepcopy(plain_state(optimizers[0])))
        group = optimizers[1].param_groups[0]
        assert (isinstance(group["lr"], Tensor), group["capturable"]) == (captures[1], captures[1])
        for parameter, optimizer in zip(parameters, optimizers, strict=True):
            parameter.grad = torch.full((2,), 2.0)
            optimizer.step()
        assert torch.equal(*parameters)


class TestCompiledModel:
    def test_it_says_what_the_model_says(self) -> None:
        model = made(PPO, CapturableCartPole).model
        compiled = CompiledModel(model, backend="eager")
        observations, starts = torch.rand(6, ROWS, 4), torch.zeros(6, ROWS, dtype=torch.bool)
        pairs = [
            (one.step(observations[0]).value, one.act(observations[0]).distribution.mode(), one.values(observations[1]))
            for one in (model, compiled)
        ]
        torch.testing.assert_close(*pairs)
        targets = torch.zeros(6 * ROWS, dtype=torch.int64)
        gradients = []
        for one in (model, compiled):
            output = one.unroll(observations, one.initial_state(ROWS), starts)
            loss = output.distribution.log_prob(targets).sum()
            gradients.append(torch.autograd.grad(loss, list(model.hidden.parameters())))  # type: ignore[union-attr]  # an ActorCritic's
        torch.testing.assert_close(*gradients)
        assert (compiled.has_memory, compiled.has_separate_values) == (model.has_memory, model.has_separate_values)
        assert set(map(id, compiled.parameters())) == set(map(id, model.parameters()))


class FakeCuda:
    """Notes what is asked of `torch.cuda`, for want of a GPU."""

    def work(self, result: int) -> int:
        self.calls.append("work")
        return result

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        fake = self

        class Stream:
            def __init__(self, *_: Any) -> None:
                pass

            def wait_stream(self, other: Any) -> None:
                fake.calls.append(f"{self.name} waits")

            name = "side"

        class Graph:
            def __init__(self) -> None:
                self.pools: list[Any] = []

            def register_generator_state(self, generator: Any) -> None:
                fake.calls.append("register")

            def pool(self) -> Any:
                return self.pools[0]

            def replay(self) -> None:
                fake.calls.append("replay")

        @contextmanager
        def capture(graph: Graph, pool: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
            graph.pools.append(pool or object())
            fake.pools.append(graph.pools[0])
            fake.calls.append("begin")
            yield
            fake.calls.append("end")

        self.pools: list[Any] = []
        main = Stream()
        main.name = "main"
        for name, value in {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "graph": capture,
            "stream": lambda stream: nullcontext(),
            "device": lambda device: nullcontext(),
            "current_stream": lambda device: main,
            "current_device": lambda: 0,
            "default_generators": [FakeGenerator()],
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch, "__version__", "2.13.0")


class FakeGenerator:
    revived = 0

    def graphsafe_set_state(self, state: Any) -> None:
        self.revived += 1


class TestCudaBackend:
    """The order of what it asks for; what comes of it is for a GPU to show."""

    def test_it_warms_up_on_the_stream_on_which_it_captures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = FakeCuda(monkeypatch)
        backend: Any = CudaGraphBackend(torch.device("cuda"))
        assert backend.device == torch.device("cuda:0")
        assert backend.warm_up(lambda: fake.work(3)) == 3
        assert fake.calls == ["side waits", "work", "main waits"]

    def test_graphs_know_generators_and_share_memory_while_they_live(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = FakeCuda(monkeypatch)
        backend: Any = CudaGraphBackend(torch.device("cuda", 0))
        first = backend.capture(lambda: fake.work(5), [FakeGenerator()])
        assert fake.calls == ["register", "begin", "work", "end"]
        assert first() == 5
        assert fake.calls[-1] == "replay"
        second = backend.capture(lambda: 6, [])
        assert second() == 6
        assert fake.pools[0] is fake.pools[1]
        del first, second
        backend.capture(lambda: 7, [])
        assert fake.pools[2] is not fake.pools[0]

    def test_after_a_capture_that_failed_generators_draw_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        FakeCuda(monkeypatch)
        backend: Any = CudaGraphBackend(torch.device("cuda", 0))
        monkeypatch.setattr(torch, "Generator", lambda device: None)
        generator = FakeGenerator()

        def fail() -> None:
            raise RuntimeError("not permitted")

        with pytest.raises(RuntimeError, match="not permitted"):
            backend.capture(fail, [generator])
        assert (generator.revived, torch.cuda.default_generators[0].revived) == (1, 1)  # type: ignore[attr-defined]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
class TestOnGPU:
    @pytest.mark.parametrize("memory", [None, "lstm", "gru", "attention"])
    @pytest.mark.parametrize("target_kl", [None, 1.0])
    def test_captured_is_as_not_captured(self, memory: str | None, target_kl: float | None) -> None:
        found = []
        for cuda_graphs in (False, True):
            changes = {
                **SCHEDULES,
                "device": "cuda",
                "cuda_graphs": cuda_graphs,
                "target_kl": target_kl,
                "network": {"memory": memory, "normalize_observations": True},
                "normalize_rewards": "running",
                "sequence_length": 4 if memory else None,
            }
            ppo = PPO(CartPole(64, max_episode_steps=5, device="cuda"), PPOConfig(**settings(**changes)))
            run(ppo, WARM_UP_CALLS + 2, 512 * 8)
            found.append(weights(ppo))
            if cuda_graphs:
                assert ppo._graphs is not None
                assert all(each.is_captured for each in ppo._graphs._captured)
        torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)

    def test_a_model_that_looks_at_numbers_goes_on(self, caplog: pytest.LogCaptureFixture) -> None:
        changes = {"device": "cuda", "network": None, "model": Looking, "model_parameters": {"where": "learn"}}
        ppo = PPO(CartPole(64, device="cuda"), PPOConfig(**settings(**changes)))
        run(ppo, WARM_UP_CALLS + 2)
        assert len(caplog.records) == 1
        assert caplog.records[0].levelno == logging.WARNING
