"""What gated cells share: one block of weights for each gate, side by side, for one product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from array_api_compat import device

from coursekit.arrays import Array, expect_axes, expect_shape, namespace, split

if TYPE_CHECKING:
    from jaxtyping import Float


class GatedCell:
    """Parameters u, w, b and bw whose columns are blocks of U units, checked against each other."""

    def __init__(
        self,
        function: str,
        blocks: str,
        u: Float[Array, "D G*U"],
        w: Float[Array, "U G*U"],
        b: Float[Array, " G*U"] | None,
        bw: Float[Array, " G*U"] | None,
        units: int | None = None,
    ) -> None:
        """units: U, where the state that w reads has another width; by default w has a row for each."""
        self.xp = namespace(u, w, b, bw, function=function, names=("u", "w", "b", "bw"))
        expect_axes(function, "u", u, "D G*U")
        expect_axes(function, "w", w, "U G*U")
        self.blocks, self.features, self.outputs = blocks, u.shape[0], w.shape[0]
        self.units = self.outputs if units is None else units
        columns = len(blocks) * self.units
        of_whom = "w has rows" if units is None else "proj has rows"
        because = f"{len(blocks)} blocks ({', '.join(blocks)}) of {self.units} units, as {of_whom}"
        expect_shape(function, "w", w, (self.outputs, columns), because)
        expect_shape(function, "u", u, (self.features, columns), because)
        for name, offset in (("b", b), ("bw", bw)):
            if offset is not None:
                expect_shape(function, name, offset, (columns,), because)
        self.u, self.w, self.b, self.bw = u, w, b, bw

    def _zeros(self, x: Float[Array, "T N D"], width: int) -> Float[Array, "N width"]:
        return self.xp.zeros((x.shape[1], width), dtype=self.w.dtype, device=device(self.w))

    def _split(self, a: Float[Array, "... G*U"], *blocks: int) -> Sequence[Float[Array, "... n*U"]]:
        """The first so many blocks, the next so many, and so on until the last."""
        return split(a, [count * self.units for count in blocks])

    def _by_letter(self, a: Float[Array, "... B*U"], letters: str) -> dict[str, Float[Array, "... U"]]:
        """The blocks of a, one for each letter."""
        return dict(zip(letters, self._split(a, *(1,) * len(letters)), strict=True))

    def local_slopes(self, states: Any, saved: list[tuple]) -> list[tuple]:
        """What every step_backward can be given as saved: as it is, since all slopes belong to one step."""
        return saved
