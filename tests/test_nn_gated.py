"""Modules for torch with gated cells: equal to torch.nn's, every variant trains, on every device."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from conftest import LIBRARIES
from torch.nn.utils.rnn import pack_padded_sequence

from coursekit.arrays import ShapeError
from coursekit.nn import GRU, LSTM
from coursekit.recurrent import lstm_forward
from coursekit.weights import cell_parameters, from_torch, to_torch

# torch says once where its own projected LSTM is slow
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

T, N, D, U = 6, 4, 3, 5
LENGTHS = [6, 1, 3, 2]
BOOLS = (False, True)
both_ways = pytest.mark.parametrize("hand_written", BOOLS, ids=["autograd", "by hand"])
TENSORS = [library for library in LIBRARIES if library.name == "torch"]
KINDS = {"LSTM": (LSTM, {}), "LSTM projected": (LSTM, {"proj_size": 2}), "GRU": (GRU, {})}
VARIANTS = {
    "peepholes": (LSTM, {"peepholes": True}),
    "f = 1 - i": (LSTM, {"coupled": "input"}),
    "i = 1 - f with peepholes": (LSTM, {"coupled": "forget", "peepholes": True}),
    "peepholes, projected": (LSTM, {"peepholes": True, "proj_size": 2}),
    "1997": (LSTM, {"gates": "io"}),
    "carousel": (LSTM, {"gates": ""}),
    "no output activation": (LSTM, {"activations": ("sigmoid", "tanh", "identity")}),
    "reset before": (GRU, {"reset": "before"}),
}
CONFIGURATIONS = [
    pytest.param(
        kind,
        {"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "batch_first": batch_first},
        id=f"{kind}-{layers}-{bidirectional}-{bias}-{batch_first}",
    )
    for kind, layers, bidirectional, bias, batch_first in product(KINDS, (1, 2), BOOLS, BOOLS, BOOLS)
]


@pytest.fixture(params=TENSORS, ids=str)
def library(request):
    return request.param


@pytest.fixture
def device(library):
    return {"device": library.device, "dtype": getattr(torch, library.dtype)}


def pair(kind, *, hand_written=True, seed=0, **options):
    """torch's module and ours with its weights."""
    ours, fixed = KINDS[kind]
    torch.manual_seed(seed)
    theirs = getattr(torch.nn, ours.__name__)(D, U, **fixed, **options)
    return theirs, ours.from_torch(theirs, hand_written=hand_written)


def randn(rng, *shape, device="cpu", dtype=torch.float64):
    return torch.from_numpy(rng.standard_normal(shape)).to(device, dtype)


def states_for(module, rng, batch=(N,), **device):
    widths = {"LSTM": (getattr(module, "proj_size", 0) or U, U), "GRU": (U,)}[type(module).__name__]
    count = module.num_layers * (1 + module.bidirectional)
    states = tuple(randn(rng, count, *batch, width, **device) for width in widths)
    return states if len(states) == 2 else states[0]


def flat(states):
    return list(states) if isinstance(states, tuple) else [states]


def assert_equal(ours, theirs, tolerance=1e-11):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.device == theirs.device
    scale = max(1.0, float(theirs.detach().abs().max()))
    assert float((ours - theirs).detach().abs().max()) <= tolerance * scale


def results(module, x, hx, dy, dlast):
    """Outputs, last states, and the gradients of everything."""
    x = x.clone().requires_grad_()
    states = [] if hx is None else [a.clone().requires_grad_() for a in flat(hx)]
    given = None if hx is None else tuple(states) if len(states) == 2 else states[0]
    y, last = module(x, given)
    leaves = [x, *states, *module.parameters()]
    return [y, *flat(last), *torch.autograd.grad((y, *flat(last)), leaves, (dy, *flat(dlast)))]


@both_ways
@pytest.mark.parametrize(("kind", "options"), CONFIGURATIONS)
def test_values_and_gradients_equal_torchs(kind, options, hand_written, device, library, rng):
    theirs, ours = pair(kind, **options, **device, hand_written=hand_written)
    shape = (N, T) if options["batch_first"] else (T, N)
    x = randn(rng, *shape, D, **device)
    dy = randn(rng, *theirs(x)[0].shape, **device)
    for hx in (None, states_for(theirs, rng, **device)):
        dlast = states_for(theirs, rng, **device)
        judged = results(theirs, x, hx, dy, dlast)
        for mine, expected in zip(results(ours, x, hx, dy, dlast), judged, strict=True):
            assert_equal(mine, expected, library.tolerance)


@both_ways
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", BOOLS)
@pytest.mark.parametrize("enforce_sorted", BOOLS)
def test_packed_sequences_equal_torchs(kind, bidirectional, enforce_sorted, hand_written, rng):
    options = {"num_layers": 2, "bidirectional": bidirectional, "dtype": torch.float64}
    theirs, ours = pair(kind, **options, hand_written=hand_written)
    lengths = sorted(LENGTHS, reverse=True) if enforce_sorted else LENGTHS
    x, hx, judged = randn(rng, T, N, D), states_for(theirs, rng), []
    for module in (theirs, ours):
        leaf = x.clone().requires_grad_()
        packed = pack_padded_sequence(leaf, torch.tensor(lengths), enforce_sorted=enforce_sorted)
        y, last = module(packed, hx)
        outputs = [y.data, *flat(last)]
        judged.append([*outputs, *torch.autograd.grad(sum(a.sin().sum() for a in outputs), leaf)])
        assert y.batch_sizes.tolist() == packed.batch_sizes.tolist()
    for mine, expected in zip(*judged[::-1], strict=True):
        assert_equal(mine, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", BOOLS)
def test_one_sequence_needs_no_batch_axis(kind, batch_first, rng):
    theirs, ours = pair(kind, num_layers=2, batch_first=batch_first, dtype=torch.float64)
    x, hx = randn(rng, T, D), states_for(theirs, rng, ())
    for given in (None, hx):
        (mine, last), (expected, ends) = ours(x, given), theirs(x, given)
        for a, b in zip([mine, *flat(last)], [expected, *flat(ends)], strict=True):
            assert_equal(a, b)


def test_dropout_is_drawn_as_torch_draws_it(rng):
    theirs, ours = pair("LSTM", num_layers=3, dropout=0.4, dtype=torch.float64)
    x, outputs = randn(rng, T, N, D), []
    for module in (theirs, ours):
        torch.manual_seed(1)
        outputs.append(module(x)[0])
    assert_equal(outputs[1], outputs[0])
    assert_equal(ours.eval()(x)[0], theirs.eval()(x)[0])


# Variants


def variant(name, **options):
    kind, fixed = VARIANTS[name]
    torch.manual_seed(0)
    return kind(D, U, **fixed, **options)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_by_hand_and_by_autograd_agree_on_every_device(name, device, library, rng):
    by_hand, recorded = (variant(name, **device, hand_written=way) for way in (True, False))
    x, hx, dlast = randn(rng, T, N, D, **device), *(states_for(by_hand, rng, **device) for _ in range(2))
    dy = randn(rng, *by_hand(x)[0].shape, **device)
    judged = results(recorded, x, hx, dy, dlast)
    for mine, expected in zip(results(by_hand, x, hx, dy, dlast), judged, strict=True):
        assert_equal(mine, expected, library.tolerance)


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_of_variants_can_be_differentiated_again(name, rng):
    module = variant(name, dtype=torch.float64)
    names = list(dict(module.named_parameters()))

    def f(x, *parameters):
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(module, values, (x,), {"lengths": [3, 0]})[0]

    assert torch.autograd.gradgradcheck(f, (randn(rng, 3, 2, D).requires_grad_(), *module.parameters()))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_of_a_variant_trains(name, rng):
    module = variant(name, num_layers=2, bidirectional=True)
    y, _ = module(randn(rng, T, N, D, dtype=torch.float32), lengths=LENGTHS)
    y.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters())


@both_ways
@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_is_made_on_the_cpu_by_mistake(name, hand_written):
    module = variant(name, num_layers=2, bidirectional=True, device="meta", hand_written=hand_written)
    x = torch.empty(T, N, D, device="meta", requires_grad=True)
    y, last = module(x, lengths=LENGTHS)
    gradients = torch.autograd.grad(y.sum(), [x, *module.parameters()])
    assert {a.device.type for a in (y, *flat(last), *gradients)} == {"meta"}


def test_a_module_is_the_function_of_its_weights(rng):
    module = variant("i = 1 - f with peepholes", dtype=torch.float64)
    ((own,),) = cell_parameters(from_torch({k: p.numpy() for k, p in module.state_dict().items()}))
    x = rng.normal(size=(T, N, D))
    h, _ = lstm_forward(x, **own, coupled="forget")
    np.testing.assert_allclose(module(torch.from_numpy(x))[0].detach().numpy(), h, rtol=0, atol=1e-12)
    back = to_torch({f"0.{name}": values for name, values in own.items()})
    module.load_state_dict({name: torch.from_numpy(values) for name, values in back.items()})


def test_the_way_back_keeps_less_than_half_of_what_torchs_lstm_keeps(rng):
    theirs, ours = pair("LSTM")
    x = randn(rng, 50, 20, D, dtype=torch.float32)
    kept = {}
    for module in (theirs, ours):
        seen = {}
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t, seen=seen: seen.setdefault(t.untyped_storage().data_ptr(), t) is None or t, lambda t: t
        )
        with hooks:
            module(x)
        weights = {p.untyped_storage().data_ptr() for p in (x, *module.parameters())}
        kept[module] = sum(t.untyped_storage().nbytes() for key, t in seen.items() if key not in weights)
    assert kept[ours] < 0.5 * kept[theirs]


# Weights to start with


@pytest.mark.parametrize(("kind", "options"), CONFIGURATIONS[::3])
def test_the_same_seed_starts_as_torch_does_and_state_dictionaries_fit(kind, options, rng):
    theirs, ours = pair(kind, **options)
    torch.manual_seed(0)
    again = type(ours)(D, U, **KINDS[kind][1], **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mine, expected in zip(again.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, expected)
    theirs.load_state_dict(ours.state_dict())


def blocks(offset, count):
    return offset.detach().view(count, U)[:, 0].tolist()


def test_the_forget_gate_starts_open_as_asked():
    torch.manual_seed(0)
    module = LSTM(D, U, 2, bidirectional=True, forget_bias=1.5)
    for ending in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        both = getattr(module, f"bias_ih{ending}") + getattr(module, f"bias_hh{ending}")
        assert torch.equal(both.view(4, U)[1], torch.full((U,), 1.5)) and (both.view(4, U)[0] != 1.5).all()
    coupled = LSTM(D, U, coupled="input", forget_bias=2.0, init="orthogonal")
    assert blocks(coupled.bias_ih_l0, 3) == [-2, 0, 0] and blocks(coupled.bias_hh_l0, 3) == [0, 0, 0]
    driven = LSTM(D, U, coupled="forget", forget_bias=2.0, init="orthogonal")
    assert blocks(driven.bias_ih_l0, 3) == [2, 0, 0]


def test_recurrent_weights_and_peepholes_start_as_asked():
    for module, count in ((LSTM(D, U, init="identity", peepholes=True), 4), (GRU(D, U, init="identity"), 3)):
        assert torch.equal(module.weight_hh_l0, torch.eye(U).repeat(count, 1))
        assert not module.bias_ih_l0.any()
    assert not LSTM(D, U, init="identity", peepholes=True).peephole_l0.any()
    assert LSTM(D, U, peepholes=True).peephole_l0.all()


# Errors


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LSTM(D, U, proj_size=U), ValueError, "proj_size must be from 0 to hidden_size - 1, got 5"),
        (lambda: LSTM(D, U, proj_size=2, init="identity"), ValueError, "init 'identity' draws square w"),
        (
            lambda: LSTM(D, U, gates="", peepholes=True),
            ValueError,
            "there is no gate that could see the cell",
        ),
        (lambda: LSTM(D, U, bias=False, forget_bias=1.0), ValueError, "forget_bias 1.0 needs bias=True"),
        (lambda: LSTM(D, U, coupled="both"), ValueError, "^nn.LSTM: coupled 'both' is unknown"),
        (lambda: GRU(D, U, reset="never")(torch.zeros(T, N, D)), ValueError, "reset 'never' is unknown"),
        (lambda: GRU(D, 0), ValueError, r"^nn.GRU: sizes must be >= 1, got \(3, 0, 1\)"),
        (
            lambda: LSTM(D, U)(torch.zeros(T, N, D), torch.zeros(1, N, U)),
            TypeError,
            r"^nn.LSTM: hx must be a pair \(h0, c0\), got Tensor",
        ),
        (
            lambda: LSTM(D, U)(torch.zeros(T, N, D), (torch.zeros(1, N, U), torch.zeros(2, N, U))),
            ShapeError,
            r"^nn.LSTM: c0 has shape \(2, 4, 5\), expected \(1, 4, 5\)",
        ),
        (
            lambda: GRU(D, U)(torch.zeros(T, D), torch.zeros(1, N, U)),
            ShapeError,
            r"^nn.GRU: hx has shape \(1, 4, 5\), expected \(1, 5\): layers \* directions, U, as input has no",
        ),
    ],
)
def test_what_cannot_be_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
