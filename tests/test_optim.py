"""Optimisers and schedules compute torch's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coursekit.arrays import ShapeError
from coursekit.optim import SGD, Adam, AdamW, Optimiser, constant, cosine, one_cycle

CASES = {
    "plain SGD": (SGD, {"lr": 0.1}),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9}),
    "nesterov and decay": (SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "Adam": (Adam, {"lr": 0.03, "betas": (0.8, 0.95)}),
    "Adam with large eps": (Adam, {"lr": 0.03, "eps": 0.1}),
    "AdamW": (AdamW, {"lr": 0.03, "weight_decay": 0.2}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("convert", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_twenty_steps_agree_with_torch(case, convert, rng):
    kind, options = CASES[case]
    values = {"w": rng.normal(size=(3, 5)), "b": rng.normal(size=5)}
    expected = {name: torch.tensor(v, requires_grad=True) for name, v in values.items()}
    parameters = {name: convert(v) for name, v in values.items()}
    theirs, ours = getattr(torch.optim, kind.__name__)(expected.values(), **options), kind(**options)
    for _ in range(20):
        gradients = {name: rng.normal(size=v.shape) for name, v in values.items()}
        for name, p in expected.items():
            p.grad = torch.tensor(gradients[name])
        theirs.step()
        ours.step(parameters, {name: convert(g) for name, g in gradients.items()})
    for name, p in expected.items():
        np.testing.assert_allclose(np.asarray(parameters[name]), p.detach().numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_a_step_changes_the_parameter_in_place_and_not_the_gradient(case, rng):
    kind, options = CASES[case]
    w, dw = rng.normal(size=3).astype("float32"), rng.normal(size=3).astype("float32")
    before, dw_before = w.copy(), dw.copy()
    kind(**options).step({"w": w}, {"w": dw})
    assert w.dtype == np.float32
    assert (w != before).all()
    np.testing.assert_array_equal(dw, dw_before)


@pytest.mark.parametrize("case", CASES)
def test_momenta_do_not_mix_between_parameters_of_different_names(case, rng):
    kind, options = CASES[case]
    together, alone = kind(**options), kind(**options)
    pair = {"a": np.ones(3), "b": np.ones(5)}
    single = {"a": np.ones(3)}
    for _ in range(3):
        da, db = rng.normal(size=3), rng.normal(size=5)
        together.step(pair, {"a": da, "b": db})
        alone.step(single, {"a": da})
    np.testing.assert_array_equal(pair["a"], single["a"])


def test_the_factor_scales_the_learning_rate_of_one_step():
    w = np.array([1.0])
    SGD(lr=0.5).step({"w": w}, {"w": np.array([2.0])}, factor=0.1)
    assert w[0] == pytest.approx(0.9)


def test_one_cycle_agrees_with_torch():
    steps, lr = 23, 0.7
    reference = torch.optim.SGD([torch.zeros(1)], lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(reference, lr, total_steps=steps)
    for step in range(steps):
        assert one_cycle()(step, steps) * lr == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        reference.step()
        if step < steps - 1:
            schedule.step()


def test_cosine_agrees_with_torch():
    steps, lr = 23, 0.7
    reference = torch.optim.SGD([torch.zeros(1)], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(reference, T_max=steps)
    for step in range(steps):
        assert cosine()(step, steps) * lr == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        reference.step()
        schedule.step()


def test_cosine_rises_to_one_in_its_warm_up_and_then_falls():
    factors = [cosine(warmup=0.25)(step, 20) for step in range(20)]
    assert factors[5] == 1
    assert np.all(np.diff(factors[:6]) > 0)
    assert np.all(np.diff(factors[5:]) < 0)
    assert 0 < factors[0] < 0.5


SCHEDULES = [constant, cosine(), cosine(0.5), one_cycle(), one_cycle(0.5), one_cycle(0.9)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_factors_lie_between_zero_and_one_however_few_the_steps(schedule, steps):
    assert all(0 <= schedule(step, steps) <= 1 for step in range(steps))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SGD(lr=-1), "SGD: lr must be a number >= 0, got -1"),
        (lambda: Adam(lr=float("nan")), "Adam: lr must be a number >= 0, got nan"),
        (lambda: SGD(lr=1, momentum=1), "SGD: momentum must satisfy 0 <= momentum < 1, got 1"),
        (lambda: SGD(lr=1, nesterov=True), "SGD: nesterov needs momentum > 0, got 0"),
        (lambda: SGD(lr=1, weight_decay=-1), "SGD: weight_decay must be a number >= 0"),
        (lambda: Adam(betas=(0.9, 1.0)), r"Adam: betas\[1\] must satisfy"),
        (lambda: AdamW(weight_decay=-0.1), "AdamW: weight_decay must be a number >= 0, got -0.1"),
        (lambda: cosine(1.0), "cosine: warmup must be a share with 0 <= warmup < 1, got 1.0"),
        (lambda: one_cycle(0.0), "one_cycle: warmup must be a share with 0 < warmup < 1, got 0.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "gradients, error, message",
    [
        ({"w": np.ones(3)}, ValueError, "SGD.step: parameters and gradients need the same names.* b"),
        ({"w": np.ones(3), "b": np.ones(2)}, ShapeError, r"SGD.step: db has shape \(2,\), expected \(1,\)"),
        ({"w": np.ones(3, "float32"), "b": np.ones(1)}, TypeError, "one dtype, got w float64, dw float32"),
        ({"w": torch.ones(3), "b": torch.ones(1)}, TypeError, "one array library, got w numpy, dw torch"),
    ],
)
def test_gradients_that_do_not_fit_are_refused_and_change_nothing(gradients, error, message):
    parameters = {"w": np.ones(3), "b": np.ones(1)}
    with pytest.raises(error, match=message):
        SGD(lr=1).step(parameters, gradients)
    np.testing.assert_array_equal(parameters["w"], 1)


def test_a_scalar_that_no_step_can_change_is_refused():
    with pytest.raises(TypeError, match="SGD.step: b is a NumPy scalar, which no step can change"):
        SGD(lr=1).step({"b": np.float64(1)}, {"b": np.float64(1)})


@pytest.mark.parametrize("optimiser", [SGD(0.1, 0.9, weight_decay=0.1), AdamW(0.1)], ids=["SGD", "AdamW"])
def test_parameters_that_autograd_watches_are_stepped_unseen(optimiser):
    w = torch.ones(3, requires_grad=True)
    (gradient,) = torch.autograd.grad((w**2).sum(), w, create_graph=True)
    optimiser.step({"w": w}, {"w": gradient})
    assert w.is_leaf and w.requires_grad and (w < 1).all()


def test_the_base_class_alone_cannot_step():
    with pytest.raises(NotImplementedError):
        Optimiser(lr=1).step({"w": np.ones(1)}, {"w": np.ones(1)})
