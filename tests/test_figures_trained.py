"""Each figure of the chapter on a trained cell draws what it claims: its artists are read back."""

from __future__ import annotations

import numpy as np
import pytest

from coursekit.figures import trained

TEXT, STATES = 'a("b")', [0, 1, 3, 3, 1, 0]
RNG = np.random.default_rng(0)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def ticks(labels):
    return [label.get_text() for label in labels]


def test_chances_writes_every_number_and_names_rows_and_columns():
    (axes,) = trained.chances(np.array([[0.25, 0.75], [0.5, 0.5], [0, 1]]), ["x", "y", "z"], "ab").axes
    assert texts(axes) == ["0.25", "0.75", "0.50", "0.50", "0.00", "1.00"]
    assert ticks(axes.get_xticklabels()) == ["a", "b"] and ticks(axes.get_yticklabels()) == ["x", "y", "z"]


def life():
    values = {name: RNG.uniform(0, 1, (6, 3)) for name in "ifogch"}
    return values, [
        axes for axes in trained.life(TEXT, STATES, values).axes if axes.get_label() != "<colorbar>"
    ]


def test_life_draws_each_quantity_with_a_row_for_each_unit_and_a_column_for_each_character():
    values, (_, *panels) = life()
    for axes, (name, title) in zip(panels, trained.QUANTITIES.items(), strict=True):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), values[name].T)
        assert axes.get_title(loc="left") == title
        assert ticks(axes.get_xticklabels()) == list(TEXT)


def test_life_gives_gates_one_scale_and_the_cell_state_a_wider_one():
    _, (_, *panels) = life()
    limits = [axes.images[0].get_clim() for axes in panels]
    assert limits == [(0, 1)] * 3 + [(-1, 1), (-2, 2), (-1, 1)]


def test_life_marks_where_brackets_and_quotes_are_open():
    _, (top, *_) = life()
    np.testing.assert_array_equal(top.images[0].get_array(), [[0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0]])


def test_knowledge_writes_correlations_and_draws_every_step_with_the_mark_of_its_state():
    c, states = RNG.normal(size=(20, 3)), np.arange(20) % 4
    left, right = trained.knowledge(RNG.uniform(-1, 1, (3, 2)), (2, 0), c, states, list("wxyz")).axes
    assert len(left.texts) == 6
    assert [line.get_label() for line in right.lines] == list("wxyz")
    assert len({line.get_marker() for line in right.lines}) == 4
    for state, line in enumerate(right.lines):
        np.testing.assert_array_equal(line.get_xydata(), c[states == state][:, [2, 0]])
    assert right.get_xlabel() == "cell state of unit 2"


def test_intervention_draws_both_runs_in_every_panel_and_marks_the_step():
    runs = {"left alone": np.zeros(6), "changed": np.arange(6.0)}
    _, *panels = trained.intervention(TEXT, STATES, 2, runs, {"(": runs, ")": runs}, 5).axes
    assert [axes.get_ylabel() for axes in panels] == ["$c$ of unit 5", "next  (", "next  )"]
    for axes in panels:
        alone, changed, step = axes.lines
        np.testing.assert_array_equal(changed.get_ydata(), runs["changed"])
        assert alone.get_linestyle() != changed.get_linestyle()
        assert set(step.get_xdata()) == {2}


def test_changed_minds_tells_one_unit_from_the_others():
    shares = {"brackets": RNG.uniform(size=(4, 3)), "quotes": RNG.uniform(size=(4, 3))}
    panels = trained.changed_minds([0, 1, 2, 5], shares, {"brackets": 2, "quotes": 0}).axes
    for axes, (fact, unit) in zip(panels, (("brackets", 2), ("quotes", 0)), strict=True):
        assert axes.get_title(loc="left") == fact and len(axes.lines) == 3
        np.testing.assert_array_equal(axes.lines[unit].get_ydata(), shares[fact][:, unit])
        assert [line.get_linestyle() == "-" for line in axes.lines] == [k == unit for k in range(3)]
        assert {text.get_text() for text in axes.get_legend().get_texts()} == {
            f"unit {unit}",
            "each other unit",
        }


def test_damage_writes_each_loss_under_its_gate():
    tables = {gate: RNG.uniform(0.001, 0.5, (4, 3)) for gate in "ifo"}
    panels = trained.damage(tables, ["all", "0", "1", "2"], ["0", "mean", "1"]).axes
    for axes, (gate, table) in zip(panels, tables.items(), strict=True):
        assert axes.get_title(loc="left") == trained.QUANTITIES[gate]
        assert texts(axes) == [f"{number:.3f}" for number in table.ravel()]


@pytest.mark.parametrize("fact", [0, 1])
def test_cause_and_correlation_draws_every_unit_once(fact):
    points = {name: RNG.uniform(size=(7, 2)) for name in ("brackets", "quotes")}
    marked = {name: RNG.uniform(size=(3, 2)) for name in points}
    axes = trained.cause_and_correlation(points, marked).axes[fact]
    others, own = axes.lines
    name = axes.get_title(loc="left")
    np.testing.assert_array_equal(others.get_xydata(), points[name])
    np.testing.assert_array_equal(own.get_xydata(), marked[name])
    assert others.get_marker() != own.get_marker()
