"""The figure of the ladder draws what it claims: its artists are read back."""

from __future__ import annotations

from coursekit.figures import ladder

RATIOS = {"slow": 2.0, "fast": 1.5, "floor": 0.9}
PANELS = {
    "small": {"float32": RATIOS, "float64": {name: ratio / 2 for name, ratio in RATIOS.items()}},
    "wide": {"float32": RATIOS, "float64": RATIOS},
}


def lines(axes):
    return {line.get_label(): line for line in axes.lines if line.get_label() in ("float32", "float64")}


def test_rungs_draws_every_ratio_of_every_size_and_dtype_in_its_row():
    fig = ladder.rungs(PANELS)
    for axes, (title, dtypes) in zip(fig.axes, PANELS.items(), strict=True):
        assert axes.get_title("left") == title
        for dtype, ratios in dtypes.items():
            line = lines(axes)[dtype]
            assert list(line.get_xdata()) == list(ratios.values())
            assert list(line.get_ydata()) == [0, 1, 2]
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == list(RATIOS)


def test_torch_is_a_line_at_one():
    for axes in ladder.rungs(PANELS).axes:
        assert any(list(line.get_xdata()) == [1, 1] for line in axes.lines)


def test_the_floor_is_hollow_and_off_the_line():
    axes = ladder.rungs(PANELS, floor="floor").axes[0]
    assert list(lines(axes)["float32"].get_xdata()) == [2.0, 1.5]
    hollow = [line for line in axes.lines if line.get_fillstyle() == "none"]
    assert sorted(line.get_xdata()[0] for line in hollow) == [0.45, 0.9]
