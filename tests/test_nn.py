"""Modules for torch: equal to torch.nn's, gradients by hand equal to autograd's, state dictionaries fit."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import LIBRARIES
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

from coursekit.arrays import ShapeError
from coursekit.cells import ACTIVATIONS, RNNCell, RNNState, named_activation
from coursekit.nn import RNN, unrolled

T, N, D, U = 7, 5, 3, 11
LENGTHS = [7, 1, 3, 2, 6]
BOOLS = (False, True)
both_ways = pytest.mark.parametrize("hand_written", BOOLS, ids=["autograd", "by hand"])

CONFIGURATIONS = [
    dict(zip(("nonlinearity", "num_layers", "bidirectional", "bias", "batch_first"), values, strict=True))
    for values in product(("tanh", "relu"), (1, 2), BOOLS, BOOLS, BOOLS)
]


TENSORS = [library for library in LIBRARIES if library.name == "torch"]


@pytest.fixture(params=TENSORS, ids=str)
def library(request):
    return request.param


@pytest.fixture
def device(library):
    return {"device": library.device, "dtype": getattr(torch, library.dtype)}


def pair(seed=0, **options):
    """torch's module and ours with its weights."""
    own = {name: options.pop(name) for name in ("hand_written",) if name in options}
    torch.manual_seed(seed)
    theirs = torch.nn.RNN(D, U, **options)
    return theirs, RNN.from_torch(theirs, **own)


def randn(rng, *shape, device="cpu", dtype=torch.float64):
    return torch.from_numpy(rng.standard_normal(shape)).to(device, dtype)


def assert_equal(ours, theirs, tolerance=1e-11):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.device == theirs.device
    scale = max(1.0, float(theirs.detach().abs().max())) if theirs.numel() else 1.0
    assert float((ours - theirs).detach().abs().max()) <= tolerance * scale if theirs.numel() else True


def results(module, x, hx, dy, dlast):
    """Outputs, last states, and the gradients of everything."""
    x, hx = x.clone().requires_grad_(), None if hx is None else hx.clone().requires_grad_()
    y, last = module(x, hx)
    leaves = [x, *module.parameters()] + ([] if hx is None else [hx])
    return [y, last, *torch.autograd.grad((y, last), leaves, (dy, dlast))]


@both_ways
@pytest.mark.parametrize("options", CONFIGURATIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_values_and_gradients_equal_torchs(options, hand_written, device, library, rng):
    theirs, ours = pair(**options, **device, hand_written=hand_written)
    count = options["num_layers"] * (1 + options["bidirectional"])
    shape = (N, T) if options["batch_first"] else (T, N)
    x, dy = randn(rng, *shape, D, **device), randn(rng, *shape, U * (1 + options["bidirectional"]), **device)
    for hx in (None, randn(rng, count, N, U, **device)):
        dlast = randn(rng, count, N, U, **device)
        judged = results(theirs, x, hx, dy, dlast)
        for mine, expected in zip(results(ours, x, hx, dy, dlast), judged, strict=True):
            assert_equal(mine, expected, library.tolerance)


@both_ways
@pytest.mark.parametrize("bidirectional", BOOLS)
@pytest.mark.parametrize("enforce_sorted", BOOLS)
def test_packed_sequences_equal_torchs(bidirectional, enforce_sorted, hand_written, rng):
    options = {"num_layers": 2, "bidirectional": bidirectional, "dtype": torch.float64}
    theirs, ours = pair(**options, hand_written=hand_written)
    lengths = sorted(LENGTHS, reverse=True) if enforce_sorted else LENGTHS
    x, hx = randn(rng, T, N, D), randn(rng, 2 * (1 + bidirectional), N, U)
    dy, judged = None, []
    for module in (theirs, ours):
        leaf, state = x.clone().requires_grad_(), hx.clone().requires_grad_()
        packed = pack_padded_sequence(leaf, torch.tensor(lengths), enforce_sorted=enforce_sorted)
        y, last = module(packed, state)
        dy = randn(rng, *y.data.shape) if dy is None else dy
        leaves = [leaf, state, *module.parameters()]
        judged.append([y.data, last, *torch.autograd.grad((y.data, last), leaves, (dy, hx))])
        batches = y.batch_sizes.tolist(), None if y.sorted_indices is None else y.sorted_indices.tolist()
        judged[-1].append(batches)
    *values, batches = judged[1]
    assert batches == judged[0].pop()
    for mine, expected in zip(values, judged[0], strict=True):
        assert_equal(mine, expected)


@both_ways
def test_sequences_of_equal_length_keep_their_places_in_the_packing(hand_written, rng):
    theirs, ours = pair(dtype=torch.float64, hand_written=hand_written)
    packed = pack_sequence([randn(rng, n, D) for n in (3, 5, 3, 5, 1)], enforce_sorted=False)
    assert_equal(ours(packed)[0].data, theirs(packed)[0].data)


def test_lengths_are_what_packing_does(rng):
    _, ours = pair(bidirectional=True, dtype=torch.float64)
    x = randn(rng, T, N, D)
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    expected, ends = torch.nn.utils.rnn.pad_packed_sequence(ours(packed)[0])[0], ours(packed)[1]
    y, last = ours(x, lengths=LENGTHS)
    assert_equal(y, expected)
    assert_equal(last, ends)
    with pytest.raises(TypeError, match="^nn.RNN: packed sequences have lengths of their own"):
        ours(packed, lengths=LENGTHS)


@both_ways
@pytest.mark.parametrize("batch_first", BOOLS)
def test_one_sequence_needs_no_batch_axis(batch_first, hand_written, rng):
    options = {"num_layers": 2, "batch_first": batch_first, "dtype": torch.float64}
    theirs, ours = pair(**options, hand_written=hand_written)
    x, hx = randn(rng, T, D), randn(rng, 2, U)
    for given in (None, hx):
        for mine, expected in zip(ours(x, given), theirs(x, given), strict=True):
            assert_equal(mine, expected)


@both_ways
def test_dropout_is_drawn_as_torch_draws_it(hand_written, rng):
    theirs, ours = pair(num_layers=3, dropout=0.4, dtype=torch.float64, hand_written=hand_written)
    x, outputs = randn(rng, T, N, D), []
    for module in (theirs, ours):
        torch.manual_seed(1)
        outputs.append(module(x)[0])
    assert_equal(outputs[1], outputs[0])
    assert_equal(ours.eval()(x)[0], theirs.eval()(x)[0])
    assert not torch.allclose(outputs[1], ours(x)[0])


# gradients


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"lengths": LENGTHS, "reverse": True}])
def test_the_gradient_by_hand_is_that_of_differences(options, rng):
    def f(x, h, *parameters):
        y, last = unrolled(
            lambda *p: RNNCell(*p, activation="sigmoid"), parameters, x, RNNState(h), **options
        )
        return y, last.h

    shapes = (T, N, 2), (N, 3), (2, 3), (3, 3), (3,), (3,)
    assert torch.autograd.gradcheck(f, [randn(rng, *shape).requires_grad_() for shape in shapes])


@pytest.mark.parametrize("nonlinearity", ACTIVATIONS)
@pytest.mark.parametrize("clip", [None, 0.8])
def test_by_hand_and_by_autograd_agree_for_every_activation(nonlinearity, clip, rng):
    options = {"nonlinearity": nonlinearity, "clip": clip, "dtype": torch.float64}
    by_hand, recorded = (RNN(D, U, **options, hand_written=way) for way in (True, False))
    recorded.load_state_dict(by_hand.state_dict())
    given = randn(rng, T, N, D), randn(rng, 1, N, U), randn(rng, T, N, U), randn(rng, 1, N, U)
    for mine, expected in zip(results(by_hand, *given), results(recorded, *given), strict=True):
        assert_equal(mine, expected)


def test_only_what_needs_a_gradient_may_need_one(rng):
    _, ours = pair(dtype=torch.float64)
    x, frozen = randn(rng, T, N, D), ours.weight_hh_l0
    frozen.requires_grad_(False)
    ours(x)[0].sum().backward()
    assert frozen.grad is None and ours.weight_ih_l0.grad.abs().sum() > 0
    with torch.no_grad():
        assert not ours(x)[0].requires_grad


def test_a_state_that_is_overwritten_before_the_way_back_is_noticed(rng):
    _, ours = pair(dtype=torch.float64)
    y, _ = ours(randn(rng, T, N, D))
    with torch.no_grad():
        ours.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@both_ways
@pytest.mark.parametrize("options", [{}, {"lengths": [3, 0], "reverse": True}])
def test_gradients_can_be_differentiated_again(options, hand_written, rng):
    def f(x, h, *parameters):
        y, last = unrolled(RNNCell, parameters, x, RNNState(h), **options, hand_written=hand_written)
        return y, last.h

    shapes = (3, 2, 2), (2, 3), (2, 3), (3, 3), (3,), (3,)
    assert torch.autograd.gradgradcheck(f, [randn(rng, *shape).requires_grad_() for shape in shapes])


@both_ways
def test_no_steps_hand_the_gradient_of_the_state_on(hand_written, rng):
    ours = RNN(D, U, dtype=torch.float64, hand_written=hand_written)
    hx = randn(rng, 1, N, U).requires_grad_()
    y, last = ours(randn(rng, 0, N, D), hx)
    assert y.shape == (0, N, U)
    assert_equal(torch.autograd.grad(last.sum(), hx)[0], torch.ones_like(hx))


@both_ways
def test_a_cell_with_two_state_arrays_and_saved_ones_runs_too(hand_written, rng):
    """A cell whose state has a second array, and whose steps keep something: an RNN that leaks."""

    class Two(NamedTuple):
        h: torch.Tensor
        c: torch.Tensor

    class Leaky(RNNCell):
        def initial(self, x):
            return Two(*(2 * (super().initial(x).h,)))

        def step(self, z, before):
            inner = self.xp.tanh(z + before.h @ self.w)
            c = 0.9 * before.c + inner
            return Two(c * inner, c), (inner,)

        def local_slopes(self, states, saved):
            return saved

        def step_backward(self, dafter, before, after, saved=()):
            (inner,) = saved
            dc = dafter.c + dafter.h * inner
            dz = (dc + dafter.h * after.c) * (1 - inner * inner)
            return dz, Two(dz @ self.w.T, 0.9 * dc)

    def f(x, h, c, *parameters):
        y, last = unrolled(Leaky, parameters, x, Two(h, c), lengths=LENGTHS, hand_written=hand_written)
        return y, *last

    shapes = (T, N, 2), (N, 3), (N, 3), (2, 3), (3, 3), (3,)
    assert torch.autograd.gradcheck(f, [randn(rng, *shape).requires_grad_() for shape in shapes])


# weights


@pytest.mark.parametrize("options", CONFIGURATIONS[::3], ids=str)
def test_state_dictionaries_fit_in_both_directions(options, rng):
    theirs, ours = pair(**options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    back = torch.nn.RNN(D, U, **options)
    back.load_state_dict(ours.state_dict())
    x = randn(rng, T, T, D, dtype=torch.float32)
    assert torch.equal(back(x)[0], theirs(x)[0])
    again = RNN(D, U, **options)
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again(x)[0], ours(x)[0])


def test_the_same_seed_starts_as_torch_does():
    for options in CONFIGURATIONS:
        modules = []
        for kind in (torch.nn.RNN, RNN):
            torch.manual_seed(3)
            modules.append(kind(D, U, **options))
        for mine, expected in zip(*(module.parameters() for module in modules), strict=True):
            assert torch.equal(mine, expected)


def test_from_torch_copies_weights_and_mode():
    theirs, ours = pair(dropout=0.5, num_layers=2)
    assert RNN.from_torch(theirs.eval()).training is False
    with torch.no_grad():
        theirs.weight_ih_l0.zero_()
    assert ours.weight_ih_l0.abs().sum() > 0 and ours.training and ours.dropout == 0.5


@pytest.mark.parametrize("bias", BOOLS)
def test_recurrent_weights_start_as_asked(bias):
    torch.manual_seed(0)
    ours = RNN(D, U, 2, bias=bias, init="identity", gain=0.5, bidirectional=True)
    for ending in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        assert torch.equal(getattr(ours, f"weight_hh{ending}"), 0.5 * torch.eye(U))
        assert not bias or not getattr(ours, f"bias_hh{ending}").any()
    w = RNN(D, U, init="orthogonal", dtype=torch.float64).weight_hh_l0
    assert_equal(w @ w.T, torch.eye(U, dtype=torch.float64))
    torch.manual_seed(0)
    first, second = RNN(D, U, init="glorot"), RNN(D, U, init="glorot")
    torch.manual_seed(0)
    assert torch.equal(RNN(D, U, init="glorot").weight_ih_l0, first.weight_ih_l0)
    assert not torch.equal(second.weight_ih_l0, first.weight_ih_l0)


def test_an_activation_of_ones_own_is_taken(rng):
    ours = RNN(D, U, nonlinearity=named_activation("leaky_relu", 0.3), bias=False, dtype=torch.float64)
    x = randn(rng, 1, N, D)
    expected = torch.nn.functional.leaky_relu(x[0] @ ours.weight_ih_l0.T, 0.3)
    assert_equal(ours(x)[0][0], expected)


def test_a_module_trains_moves_and_says_what_it_is(rng):
    torch.manual_seed(0)
    module = torch.nn.Sequential(RNN(D, U, init="orthogonal"))
    x = randn(rng, T, N, D, dtype=torch.float32)
    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    losses = []
    for _ in range(50):
        optimiser.zero_grad()
        loss = (module(x)[0][-1, :, 0] - x[0, :, 0].sign()).pow(2).mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 < losses[0]
    assert module.double()(x.double())[0].dtype == torch.float64
    assert "weight_ih_l0 (11, 3)" in repr(module)


@both_ways
def test_nothing_is_made_on_the_cpu_by_mistake(hand_written):
    module = RNN(D, U, 2, bidirectional=True, device="meta", hand_written=hand_written)
    x = torch.empty(T, N, D, device="meta", requires_grad=True)
    y, last = module(x, lengths=LENGTHS)
    gradients = torch.autograd.grad(y.sum(), [x, *module.parameters()])
    assert {a.device.type for a in (y, last, *gradients)} == {"meta"}


# errors


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0, U), {}, ValueError, r"nn.RNN: sizes must be >= 1, got \(0, 11, 1\)"),
        ((D, U), {"nonlinearity": "gelu"}, ValueError, "activation 'gelu' is unknown"),
        ((D, U), {"dropout": 1.5}, ValueError, "nn.RNN: dropout must be a probability, got 1.5"),
        ((D, U), {"init": "zeros"}, ValueError, "recurrent 'zeros' is unknown"),
    ],
)
def test_a_module_that_cannot_be_is_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        RNN(*arguments, **options)


@pytest.mark.parametrize(
    ("x", "hx", "error", "message"),
    [
        ((T, N, 1, D), None, ShapeError, r"nn.RNN: input has 4 axes \(7, 5, 1, 3\), expected 3, or 2"),
        ((T, N, D + 1), None, ShapeError, "x has 4 features, the cell takes 3"),
        ((T, N, D), (2, N, U), ShapeError, r"nn.RNN: hx has shape \(2, 5, 11\), expected \(1, 5, 11\)"),
        ((T, D), (1, N, U), ShapeError, r"nn.RNN: hx has shape \(1, 5, 11\), expected \(1, 11\)"),
    ],
)
def test_bad_input_is_named(x, hx, error, message):
    with pytest.raises(error, match=message):
        RNN(D, U)(torch.zeros(x), None if hx is None else torch.zeros(hx))


def test_importing_the_modules_is_what_imports_torch():
    code = "import sys, coursekit.recurrent, coursekit.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert isinstance(np.asarray(RNN(D, U)(torch.zeros(T, N, D))[0].detach()), np.ndarray)
