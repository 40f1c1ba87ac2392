"""Each figure on gradients over time draws what it claims: its artists are counted and read back."""

from __future__ import annotations

import numpy as np
import pytest

from coursekit.figures import longterm

STRETCH = np.diag([2.0, 0.25])
SPECTRUM = longterm.Spectrum(np.ones((4, 3)), np.full(4, 0.5), "half right")
TASKS = {
    task: {length: {"tanh": [1.0, 0.9], "LSTM": [0.0, 0.02]} for length in ("50 steps", "100 steps")}
    for task in ("adding", "parity")
}


def labelled(axes):
    return {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}


def titles(fig):
    return [axes.get_title(loc="left") for axes in fig.axes]


def test_stretched_circles_show_the_axes_of_the_ellipse_and_the_determinant():
    (axes,) = longterm.stretched_circles({"stretch": STRETCH}, (0, 1, 3)).axes
    widest = [np.abs(line.get_xdata()).max() for line in axes.lines]
    np.testing.assert_allclose(widest, [1, 2, 8])
    assert axes.get_title(loc="left") == "stretch, determinant 0.50"


def test_stretched_circles_treat_gradients_as_rows():
    (axes,) = longterm.stretched_circles({"shear": np.array([[1.0, 3.0], [0.0, 1.0]])}, (1,)).axes
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(np.abs(y).max(), 1, rtol=1e-4)
    np.testing.assert_allclose(np.abs(x).max(), np.hypot(1, 3), rtol=1e-3)


def test_growth_draws_each_curve_from_step_zero_and_bounds_thinner():
    curves = {"a": np.array([1.0, 2.0]), "b": np.ones(3)}
    (axes,) = longterm.growth(curves, xlabel="k", ylabel="s", bounds=["b"]).axes
    lines = labelled(axes)
    assert list(lines["a"].get_xdata()) == [0, 1]
    assert lines["b"].get_linewidth() < lines["a"].get_linewidth()
    assert axes.get_yscale() == "log"


def test_exponents_shade_the_gains_where_determinant_and_growth_disagree():
    measured = np.array([0.5, -1.0])
    gains, largest, volume = [0.5, 1.5, 2.5], [-1.0, 1.0, 3.0], [-3.0, -1.0, 1.0]
    left, right = longterm.exponents({"gain 1": (measured, measured)}, gains, largest, volume).axes
    (band,) = right.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == (1.0, 2.0)
    assert list(labelled(left)["gain 1"].get_ydata()) == [0.5, -1.0]


def test_spectra_have_a_row_per_net_and_a_column_per_moment():
    rows = {name: {"start": SPECTRUM, "end": SPECTRUM} for name in ("a", "b", "c")}
    fig = longterm.spectra(rows)
    assert titles(fig) == ["start: half right", "end: half right"] * 3
    assert [axes.get_ylabel() for axes in fig.axes] == ["a", "", "b", "", "c", ""]
    drawn = labelled(fig.axes[0])
    assert list(drawn["determinant, per unit"].get_ydata()) == [0.5] * 4
    assert list(drawn["largest"].get_ydata()) == [1] * 4


def test_gradient_distances_share_one_scale():
    moments = {"before": {"tanh": np.array([1.0, 1e-8])}, "after": {"tanh": np.array([1.0, 2.0])}}
    before, after = longterm.gradient_distances(moments).axes
    assert before.get_ylim() == after.get_ylim()
    assert list(labelled(after)["tanh"].get_ydata()) == [1, 2]


def test_task_errors_draw_a_dot_for_every_seed_and_none_off_the_axis():
    fig = longterm.task_errors(TASKS, smallest=0.01)
    assert titles(fig) == ["adding", "parity"]
    for axes in fig.axes:
        dots = labelled(axes)["50 steps"].get_xdata()
        assert sorted(dots) == [0.01, 0.02, 0.9, 1.0]
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["tanh", "LSTM"]


def test_latch_puts_what_is_kept_beside_the_gradient():
    left, right = longterm.latch([1, 2], {"0.1": [0.5, 1]}, {"0.1": [1e-3, 1e-30]}).axes
    assert list(labelled(left)["0.1"].get_ydata()) == [0.5, 1]
    assert list(labelled(right)["0.1"].get_ydata()) == [1e-3, 1e-30]
    assert right.get_yscale() == "log"


def test_learnt_shares_mark_every_length():
    (axes,) = longterm.learnt_shares([2, 50], {"trained": [1, 0.3]}).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "50"]


@pytest.mark.parametrize(
    "figure",
    [
        longterm.growth({"a": np.ones(3)}, xlabel="steps", ylabel="norm"),
        longterm.exponents({"a": (np.ones(2), np.ones(2))}, [1, 2], [-1, 1], [-2, 1]),
        longterm.latch([1, 2], {"a": [0.5, 1]}, {"a": [1, 0.1]}),
        longterm.learnt_shares([2, 50], {"trained": [1, 0.3]}),
    ],
    ids=["growth", "exponents", "latch", "shares"],
)
def test_plots_label_both_axes(figure):
    for axes in figure.axes:
        assert axes.get_xlabel() and axes.get_ylabel()
        assert axes.get_xlabel() == axes.get_xlabel().lower()
