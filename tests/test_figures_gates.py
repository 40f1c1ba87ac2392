"""The drawing of gated cells shows the gates that a cell has: artists are read back."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

from coursekit.cells.lstm import lstm_blocks
from coursekit.figures import gates
from coursekit.figures.conv import BLUE, ORANGE

VARIANTS = [{}, {"gates": ""}, {"gates": "i"}, {"gates": "io"}, {"coupled": "input"}, {"coupled": "forget"}]


def drawn(shape=Polygon, **options):
    (axes,) = gates.cell(**options).axes
    return [patch for patch in axes.patches if isinstance(patch, shape) and patch.get_gid()]


def letters(**options):
    return "".join(block.get_gid() for block in drawn(FancyBboxPatch, **options))


def valves(**options):
    return sorted(valve.get_gid() for valve in drawn(**options))


def lines(colour, **options):
    (axes,) = gates.cell(**options).axes
    return [line for line in axes.lines if to_hex(line.get_color()) == colour]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_an_lstm_shows_its_blocks_in_the_order_of_its_weights(options):
    assert letters(**options) == lstm_blocks(**options)
    left = [block.get_x() for block in drawn(FancyBboxPatch, **options)]
    assert left == sorted(left)


@pytest.mark.parametrize("present", ["", "i", "io", "ifo", "fo"])
def test_every_gate_has_its_valve_and_an_absent_one_none(present):
    assert valves(gates=present) == [f"valve {k}" for k in sorted(present)]


@pytest.mark.parametrize("coupled", ["input", "forget"])
def test_a_coupled_gate_has_a_valve_but_no_block(coupled):
    assert valves(coupled=coupled) == ["valve f", "valve i", "valve o"]
    (axes,) = gates.cell(coupled=coupled).axes
    assert [text.get_text() for text in axes.texts].count("$1-$") == 1


def dotted(**options):
    return [line for line in lines(BLUE, **options) if line.get_linestyle() not in ("-", "None")]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_peephole_leads_to_every_gate_that_has_a_block(options):
    seen = dotted(peepholes=True, **options)
    assert dotted(**options) == []
    ends = [line.get_xdata()[-1] for line in seen]
    expected = [gates.COLUMNS[k] - 0.24 for k in lstm_blocks(**options) if k != "g"]
    assert ends == pytest.approx(expected)


def test_the_output_gate_sees_the_cell_state_after_the_plus():
    plus = gates.COLUMNS["g"]
    starts = [line.get_xdata()[0] for line in dotted(peepholes=True)]
    assert [start > plus for start in starts] == [False, False, True]


def test_a_gru_shows_the_product_on_the_side_of_the_valve_where_it_is_done():
    for reset, after in (("after", True), ("before", False)):
        (axes,) = gates.cell(kind="gru", reset=reset).axes
        (product,) = [text for text in axes.texts if text.get_text() == r"$\mathbf{W}_n$"]
        assert (product.get_position()[0] < gates.COLUMNS["r"]) == after


def test_a_gru_has_one_gate_at_two_valves():
    assert letters(kind="gru") == "rzn"
    assert valves(kind="gru") == ["valve 1 - z", "valve r", "valve z"]


@pytest.mark.parametrize(
    "highlight, orange", [("state", ""), ("forget", "f"), ("input", "i"), ("update", "fi"), ("output", "o")]
)
def test_a_highlight_leaves_the_colour_to_its_own_valves(highlight, orange):
    shown = [valve for valve in drawn(highlight=highlight) if to_hex(valve.get_edgecolor()) == ORANGE]
    assert sorted(valve.get_gid()[-1] for valve in shown) == sorted(orange)


@pytest.mark.parametrize("kind", gates.PARTS)
def test_every_highlight_leaves_less_in_colour_than_none(kind):
    def pale(highlight):
        return len(lines(gates.PALE, kind=kind, highlight=highlight))

    assert pale("") == 0
    assert all(pale(highlight) > 5 for highlight in gates.PARTS[kind])


@pytest.mark.parametrize("kind", gates.PARTS)
def test_a_chain_repeats_the_cell_and_counts_its_steps(kind):
    assert letters(kind=kind, steps=3) == 3 * letters(kind=kind)
    assert len(drawn(Circle, kind=kind, steps=3)) == 3
    (axes,) = gates.cell(kind=kind, steps=3).axes
    texts = {text.get_text() for text in axes.texts}
    assert {rf"$\mathbf{{x}}_{{{t}}}$" for t in range(3)} <= texts


def test_the_lane_of_a_chain_has_no_hole():
    lane = sorted(
        (line.get_xdata() for line in lines(BLUE, steps=3) if np.all(line.get_ydata() == gates.LANE)),
        key=lambda x: x[0],
    )
    lane = [x for x in lane if len(x) > 1]
    assert all(after[0] == pytest.approx(before[-1]) for before, after in zip(lane, lane[1:], strict=False))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"highlight": "reset"}, "highlight 'reset' is unknown, expected one of"),
        ({"kind": "rnn"}, "kind 'rnn' is unknown"),
        ({"kind": "gru", "reset": "never"}, "reset 'never' is unknown"),
        ({"gates": "x"}, "gates 'x' is unknown"),
    ],
)
def test_an_unknown_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        gates.cell(**options)


def test_sequences_shows_every_number_mark_and_answer():
    x = np.array([[0.0, 0, 0], [0.5, 1, 0], [0.2, 0, 0], [0, 0, 1]])
    target = np.array([np.nan, np.nan, np.nan, 0.5])
    (axes,) = gates.sequences({"a": (x, target)}).axes
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert drawn["number"].tolist() == [0.2]
    assert drawn["marked number"].tolist() == [0.5]
    assert np.array_equal(drawn["right answer"], target, equal_nan=True)
    assert list(drawn["asked"]) == [0, 1] and axes.lines[2].get_xdata()[0] == 3


def test_answers_has_a_panel_for_each_cell_with_all_questions():
    asked, target = np.array([0, 1, 0, 1]), np.array([0, 0.5, 0, 0.5])
    panels = gates.answers(asked, target, {"one": target, "two": 0 * target}).axes
    assert [panel.get_title("left") for panel in panels] == ["one", "two"]
    assert [len(panel.lines) for panel in panels] == [4, 4]
    assert panels[1].lines[-1].get_ydata().tolist() == [0, 0, 0, 0]


def test_on_a_stream_draws_states_by_step_and_errors_by_stretch():
    left, right = gates.on_a_stream({"a": np.arange(1, 21)}, {"a": np.array([0.5, 2])}, 10).axes
    assert left.lines[0].get_ydata().tolist() == list(range(1, 21))
    assert right.lines[0].get_xdata().tolist() == [5, 15]
    assert right.lines[1].get_ydata()[0] == 1
