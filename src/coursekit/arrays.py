"""What NumPy and torch arrays need in common: namespace, padding, sliding windows, output sizes, blocks.

The rest of the package is written against the Python array API standard. Where the library of an array
matters, the choice is made here: zero-copy views (`windows`), the order of elements in memory (`copy`),
sums at repeated positions (`scatter_add`) and the size of a piece of work (`batch_blocks`, `multiply`: NumPy
wants what fits the cache, torch the whole batch).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import array_api_compat.numpy
import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_torch_array

if TYPE_CHECKING:
    from types import ModuleType

    from jaxtyping import Float, Int

Array = Any
Size = int | Sequence[int]
Size2 = int | tuple[int, int]
Pads = tuple[tuple[int, int], ...]
Padding = int | str | Sequence[int] | Sequence[tuple[int, int]]

PAD_MODES = ("zeros", "reflect", "replicate", "circular")
AUTO_PADS = ("valid", "same", "same_upper", "same_lower", "full")

# What one block reads and writes should share a core's L2 cache (about 2 MB on current CPUs).
BLOCK_BYTES = 2 << 20


class ShapeError(ValueError):
    """Arrays whose shapes do not fit; the message names function, argument, shapes and the likely fix."""


def unstack(a: Float[Array, "T ..."]) -> list[Array]:
    """The entries of the first axis, views of a.

    On torch by unbind: the backward of one index per step fills an array as large as a for every step.
    """
    return list(a) if type(a) is np.ndarray else list(a.unbind(0) if is_torch(a) else a)


def stack(parts: Sequence[Float[Array, ...]]) -> Float[Array, "T ..."]:
    """The arrays along a new first axis; for many small ones, NumPy's own stack takes three times as long.

    >>> stack([np.zeros(2), np.ones(2)]).shape
    (2, 2)
    """
    first = parts[0]
    joined = np.concatenate(parts) if type(first) is np.ndarray else array_namespace(first).concat(parts)
    return joined.reshape((len(parts), *first.shape))


def sigmoid(xp: ModuleType, a: Float[Array, ...]) -> Float[Array, ...]:
    """1 / (1 + exp(-a)).  In NumPy a tanh costs less than an exponential, and it never overflows."""
    return a.sigmoid() if is_torch(a) else 0.5 * xp.tanh(0.5 * a) + 0.5


def split(a: Float[Array, "... C"], sizes: Sequence[int]) -> Sequence[Array]:
    """The last axis in pieces of these sizes, views of a; torch cuts all at once in the time of one slice.

    >>> [part.shape for part in split(np.zeros((4, 5)), (2, 3))]
    [(4, 2), (4, 3)]
    """
    if is_torch(a):
        return a.split(sizes, -1)
    ends = list(accumulate(sizes))
    return [a[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]


def rows_of(a: Float[Array, "*batch C"]) -> Float[Array, "rows C"]:
    """a as a table: all axes but the last joined to one."""
    return a.reshape((-1, a.shape[-1]))  # asking for the namespace would cost more than the work


def is_torch(x: Array) -> bool:
    """Whether x is a torch tensor (does not import torch)."""
    return is_torch_array(x)


def copy(x: Array) -> Array:
    """A copy of x whose elements lie in C order."""
    return x.new_empty(x.shape).copy_(x) if is_torch(x) else np.array(x, order="C")


def transposed(w: Float[Array, "K M"]) -> Float[Array, "M K"]:
    """w.T for many products: NumPy multiplies it faster in C order than as a view of w, torch either way."""
    return w.T if is_torch(w) else np.ascontiguousarray(w.T)


def namespace(
    *arrays: Array, function: str = "namespace", names: Sequence[str] = ("x", "w", "b")
) -> ModuleType:
    """The array API namespace that all arrays share; None entries after the first are skipped.

    names: what the error messages call the arrays, in order.
    Raises TypeError if something is not an array, if libraries, dtypes or devices differ, or if the dtype
    is not a floating one.

    >>> namespace(np.ones(3), None, np.zeros(2)).__name__
    'array_api_compat.numpy'
    """
    given = {name: a for name, a in zip(names, arrays, strict=False) if a is not None or a is arrays[0]}
    if _plain_floats(given.values()):
        return array_api_compat.numpy
    for name, a in given.items():
        if isinstance(a, np.ma.MaskedArray):
            raise TypeError(f"{function}: {name} is masked, and masks are not kept; use {name}.filled(0)")
        if not is_array_api_obj(a):
            raise TypeError(
                f"{function}: {name} is a {type(a).__name__}, not an array; "
                f"convert it, e.g. numpy.asarray({name}, dtype=numpy.float32)"
            )
    _expect_one(given, "array library", lambda a: array_namespace(a).__name__.split(".")[-1], function)
    _expect_one(given, "dtype", lambda a: a.dtype, function)
    _expect_one(given, "device", device, function)
    xp = array_namespace(*given.values())
    for name, a in given.items():
        if not xp.isdtype(a.dtype, "real floating"):
            raise TypeError(f"{function}: {name} has dtype {a.dtype}, expected a floating one, e.g. float32")
    return xp


def _plain_floats(arrays: Iterable[Array]) -> bool:
    """Whether nothing can be wrong: NumPy arrays of one floating dtype.  Small steps cannot wait for more."""
    kinds = {a.dtype if type(a) is np.ndarray else None for a in arrays}
    return len(kinds) == 1 and getattr(kinds.pop(), "kind", None) == "f"


def _expect_one(given: dict[str, Array], what: str, read: Callable[[Array], Any], function: str) -> None:
    kinds = {name: read(a) for name, a in given.items()}
    if len(set(kinds.values())) > 1:
        found = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        raise TypeError(f"{function}: all arrays must have one {what}, got {found}; convert one of them")


def expect_axes(function: str, name: str, x: Array, layout: str) -> None:
    """Raise ShapeError unless x has one axis per letter of layout, e.g. "N C H W"."""
    axes = len(layout.split())
    if x is None:
        raise TypeError(f"{function}: {name} is None, expected an array with {axes} axes ({layout})")
    if x.ndim != axes:
        hint = f"; {name}[None] adds a batch axis" if layout.startswith("N ") and x.ndim == axes - 1 else ""
        raise ShapeError(
            f"{function}: {name} has {x.ndim} axes {tuple(x.shape)}, expected {axes} ({layout}){hint}"
        )


def expect_shape(function: str, name: str, x: Array, shape: Sequence[int], because: str) -> None:
    """Raise ShapeError unless x has exactly this shape; because says where the expectation comes from."""
    if tuple(x.shape) != tuple(shape):
        raise ShapeError(f"{function}: {name} has shape {tuple(x.shape)}, expected {tuple(shape)}: {because}")


def per_axis(value: Size, axes: int, name: str, minimum: int) -> tuple[int, ...]:
    """Repeat one integer for every axis, or check a sequence that already has one per axis.

    name: what the error messages call it, e.g. "conv2d_forward: stride".

    >>> per_axis(2, 2, "stride", 1), per_axis((1, 3), 2, "stride", 1)
    ((2, 2), (1, 3))
    """
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * axes
    if len(values) != axes:
        raise ValueError(f"{name} has {len(values)} entries, expected one integer or {axes}, got {value!r}")
    several = f" or {axes} of them" if axes > 1 else ""
    for v in values:
        if isinstance(v, bool) or not isinstance(v, (int, np.integer)):
            raise TypeError(f"{name} must be an integer{several}, got {value!r}")
        if v < minimum:
            raise ValueError(f"{name} must be >= {minimum}, got {value!r}")
    return tuple(int(v) for v in values)


def resolve_padding(
    padding: Padding,
    size: Size,
    kernel: Size,
    *,
    stride: Size = 1,
    dilation: Size = 1,
    function: str = "resolve_padding",
) -> Pads:
    """Turn any way to ask for padding into ((before, after), ...), one pair per axis.

    padding: one number; one number per axis; a (before, after) pair per axis; or a word. "valid" adds
    nothing, "full" lets every window that sees one pixel count, "same" (or "same_upper") makes
    output = ceil(size / stride) with the odd pixel after, "same_lower" with the odd pixel before.
    Implements eq-conv-same.

    >>> resolve_padding("same", (7, 5), (4, 3), stride=2)
    ((1, 2), (1, 1))
    """
    sizes, kernels = _axes_of(size), _axes_of(kernel)
    axes = len(sizes)
    strides = per_axis(stride, axes, f"{function}: stride", 1)
    dilations = per_axis(dilation, axes, f"{function}: dilation", 1)
    reaches = [d * (k - 1) for k, d in zip(kernels, dilations, strict=True)]
    if isinstance(padding, str):
        return _auto_pads(padding, sizes, reaches, strides, function)
    if isinstance(padding, Sequence) and any(isinstance(p, Sequence) for p in padding):
        if len(padding) != axes or not all(isinstance(p, Sequence) for p in padding):
            raise ValueError(
                f"{function}: padding needs a (before, after) pair for each of {axes} axes, got {padding!r}"
            )
        return tuple(per_axis(p, 2, f"{function}: padding", 0) for p in padding)
    return tuple((p, p) for p in per_axis(padding, axes, f"{function}: padding", 0))


def _auto_pads(
    word: str, sizes: Sequence[int], reaches: Sequence[int], strides: Sequence[int], function: str
) -> Pads:
    if word not in AUTO_PADS:
        raise ValueError(f"{function}: padding {word!r} is unknown, expected numbers or one of {AUTO_PADS}")
    if word == "valid":
        return tuple((0, 0) for _ in reaches)
    if word == "full":
        return tuple((r, r) for r in reaches)
    totals = (
        max(0, (-(-n // s) - 1) * s + r + 1 - n) for n, r, s in zip(sizes, reaches, strides, strict=True)
    )
    pairs = ((total // 2, total - total // 2) for total in totals)
    return tuple((after, before) if word == "same_lower" else (before, after) for before, after in pairs)


def _axes_of(size: Size) -> tuple[int, ...]:
    return tuple(size) if isinstance(size, Sequence) else (size,)


def output_size(
    size: Size,
    kernel: Size,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    function: str = "output_size",
) -> Any:
    """How many windows fit: an integer if size is one, otherwise one per axis.

    Implements eq-conv-size: floor((size + pads - dilation (kernel - 1) - 1) / stride) + 1.
    ceil_mode: round up instead, but a last window must start inside the image or the padding before it.
    Raises ShapeError if not even one window fits.

    >>> output_size(7, 3, stride=2), output_size((7, 5), (3, 3), padding=1)
    (3, (7, 5))
    """
    sizes = _axes_of(size)
    axes = len(sizes)
    kernels = per_axis(kernel, axes, f"{function}: kernel", 1)
    strides = per_axis(stride, axes, f"{function}: stride", 1)
    dilations = per_axis(dilation, axes, f"{function}: dilation", 1)
    pads = resolve_padding(padding, sizes, kernels, stride=strides, dilation=dilations, function=function)
    counts = []
    for n, k, s, d, (before, after) in zip(sizes, kernels, strides, dilations, pads, strict=True):
        room = n + before + after - d * (k - 1) - 1
        if room < 0:
            raise ShapeError(
                f"{function}: the kernel covers {d * (k - 1) + 1} pixels (kernel {k}, dilation {d}), but the "
                f"padded input has only {n + before + after} (input {tuple(sizes)}, pads {pads}); "
                "pad more or take a smaller kernel"
            )
        count = (-(-room // s) if ceil_mode else room // s) + 1
        counts.append(count - 1 if ceil_mode and (count - 1) * s >= n + before else count)
    return tuple(counts) if isinstance(size, Sequence) else counts[0]


def windows(
    x: Float[Array, "*batch H W"], size: Size, *, stride: Size = 1, dilation: Size = 1
) -> Float[Array, "*batch HO WO KH KW"]:
    """A view of every window over the last axes of x, as many axes as size has; nothing is copied.

    size: pixels per window and axis.   stride: pixels between windows.   dilation: pixels between the
    taps of one window.   Several entries share memory: treat the view as read-only.
    Raises ShapeError if a window is larger than x.

    >>> windows(np.arange(5.0), 3, stride=2)
    array([[0., 1., 2.],
           [2., 3., 4.]])
    """
    axes = len(_axes_of(size))
    sizes = per_axis(size, axes, "windows: size", 1)
    strides = per_axis(stride, axes, "windows: stride", 1)
    dilations = per_axis(dilation, axes, "windows: dilation", 1)
    covered = [d * (k - 1) + 1 for k, d in zip(sizes, dilations, strict=True)]
    batch = x.ndim - axes
    if batch < 0 or any(c > n for c, n in zip(covered, x.shape[batch:], strict=True)):
        raise ShapeError(
            f"windows: a window covers {covered} pixels, x has {list(x.shape[-axes:])} (x {tuple(x.shape)})"
        )
    if is_torch(x):
        view = x
        for axis, (length, step) in enumerate(zip(covered, strides, strict=True), start=batch):
            view = view.unfold(axis, length, step)
        return view[(..., *(slice(None, None, d) for d in dilations))]
    counts = [(n - c) // s + 1 for n, c, s in zip(x.shape[batch:], covered, strides, strict=True)]
    between = [step * s for step, s in zip(x.strides[batch:], strides, strict=True)]
    within = [step * d for step, d in zip(x.strides[batch:], dilations, strict=True)]
    return np.lib.stride_tricks.as_strided(
        x, (*x.shape[:batch], *counts, *sizes), (*x.strides[:batch], *between, *within), writeable=False
    )


def expect_pads(function: str, x: Array, pads: Pads, mode: str) -> None:
    """Raise unless pads of this mode can be put around the last axes of x."""
    if mode not in PAD_MODES:
        raise ValueError(f"{function}: padding_mode {mode!r} is unknown, expected one of {PAD_MODES}")
    for size, (before, after) in zip(x.shape[x.ndim - len(pads) :], pads, strict=True):
        if min(before, after) < 0:
            raise ValueError(f"{function}: padding must be >= 0, got {pads}; crop with a slice instead")
        # A mirror does not show the edge itself, a circle turns once; an edge repeats without end.
        widest = {"reflect": max(size - 1, 0), "circular": size}.get(mode, math.inf if size else 0)
        if mode != "zeros" and max(before, after) > widest:
            raise ShapeError(
                f"{function}: padding_mode {mode!r} can add at most {widest} pixels to an axis of {size}, "
                f"got pads {pads} (x {tuple(x.shape)}); pad less or use 'zeros'"
            )


def pad(
    x: Float[Array, "*batch H W"], pads: Pads, *, mode: str = "zeros", value: float = 0.0
) -> Float[Array, "*batch HP WP"]:
    """Add pads = ((before, after), ...) pixels around the last axes of x; always a new array.

    mode: "zeros" adds value; "reflect" mirrors without repeating the edge, "replicate" repeats the edge,
    "circular" wraps around.

    >>> pad(np.array([1.0, 2.0, 3.0]), ((2, 1),), mode="reflect")
    array([3., 2., 1., 2., 3., 2.])
    """
    xp = array_namespace(x)
    expect_pads("pad", x, pads, mode)
    first = x.ndim - len(pads)
    if mode == "zeros":
        shape = x.shape[:first] + tuple(n + sum(p) for n, p in zip(x.shape[first:], pads, strict=True))
        padded = xp.full(shape, value, dtype=x.dtype, device=device(x))
        padded[_interior(x.shape[first:], pads)] = x
        return padded
    padded = copy(x)
    for axis, (before, after) in enumerate(pads, start=first):
        if before or after:
            sources = _border_sources(x.shape[axis], before, after, mode)
            index = [*sources[:before], *range(x.shape[axis]), *sources[before:]]
            index = xp.asarray(index, device=device(x))
            padded = xp.take(padded, index, axis=axis)
    return padded


def pad_backward(
    dxp: Float[Array, "*batch HP WP"], pads: Pads, *, mode: str = "zeros"
) -> Float[Array, "*batch H W"]:
    """The gradient of pad: what reached a border pixel goes to the pixel that it was copied from."""
    first = dxp.ndim - len(pads)
    if mode == "zeros":
        sizes = [n - sum(p) for n, p in zip(dxp.shape[first:], pads, strict=True)]
        return copy(dxp[_interior(sizes, pads)])
    dx = dxp
    for axis, (before, after) in enumerate(pads, start=first):
        size = dxp.shape[axis] - before - after
        along = (slice(None),) * axis
        interior = copy(dx[(*along, slice(before, before + size))])
        borders = [*range(before), *range(before + size, before + size + after)]
        for border, source in zip(borders, _border_sources(size, before, after, mode), strict=True):
            interior[(*along, source)] += dx[(*along, border)]
        dx = interior
    return dx


def _border_sources(size: int, before: int, after: int, mode: str) -> list[int]:
    """The pixel that each border pixel of one axis copies, those before the image first."""
    positions = [*range(-before, 0), *range(size, size + after)]
    if mode == "circular":
        return [i % size for i in positions]
    if mode == "replicate":
        return [min(max(i, 0), size - 1) for i in positions]
    return [-i if i < 0 else 2 * (size - 1) - i for i in positions]


def _interior(sizes: Sequence[int], pads: Pads) -> tuple:
    """Where the image of these sizes lies in its padded version."""
    return (..., *(slice(before, before + n) for n, (before, _) in zip(sizes, pads, strict=True)))


def scatter_add(
    values: Float[Array, "N C *out"], positions: Int[Array, "N C *out"], shape: tuple[int, ...]
) -> Float[Array, "N C *image"]:
    """Zeros of this shape, in each image of which every value is added at its flat position.

    >>> scatter_add(np.array([[[1.0, 2.0, 4.0]]]), np.array([[[3, 0, 3]]]), (1, 1, 2, 2))
    array([[[[2., 0.],
             [0., 5.]]]])
    """
    xp, on = array_namespace(values), device(values)
    images, pixels = math.prod(shape[:2]), math.prod(shape[2:])
    starts = xp.reshape(pixels * xp.arange(images, device=on), (*shape[:2], *(1,) * (positions.ndim - 2)))
    positions, values = (xp.reshape(a, (-1,)) for a in (positions + starts, values))
    sums = xp.zeros(images * pixels, dtype=values.dtype, device=on)
    if is_torch(sums):
        sums.index_add_(0, positions, values)
    else:
        np.add.at(sums, positions, values)
    return xp.reshape(sums, shape)


def batch_blocks(x: Float[Array, "N ..."], item_bytes: int) -> Iterator[slice]:
    """Slices of the batch axis whose work of item_bytes per item stays in the cache.

    A NumPy array is cut so that one block's buffers fit BLOCK_BYTES. A torch tensor comes whole: autograd
    must see one operation, not many, and a GPU wants it large.

    >>> list(batch_blocks(np.ones((5, 3)), BLOCK_BYTES // 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    items = x.shape[0]
    block = max(items, 1) if is_torch(x) else max(1, BLOCK_BYTES // max(item_bytes, 1))
    for start in range(0, items, block):
        yield slice(start, min(start + block, items))


def map_batch(function: Callable[..., Array], *arrays: Array, item_bytes: int) -> Array:
    """function over cache-sized blocks of the arrays' batch axis, the results joined along it in C order.

    function must treat the batch axis item by item. On torch (and for an empty batch) it is called once.
    """
    first = arrays[0]
    if is_torch(first):
        return function(*arrays).contiguous()
    if first.shape[0] == 0:
        return np.ascontiguousarray(function(*arrays))
    out = None
    for block in batch_blocks(first, item_bytes):
        part = function(*(a[block] for a in arrays))
        if out is None:
            out = np.empty((first.shape[0], *part.shape[1:]), part.dtype)
        out[block] = part
    return out


# NumPy's OpenBLAS multiplies matrices as they lie while rows * terms * columns stay below this.  For more it
# copies them into an order of its own first, which a few rows do not earn back.
SMALL_PRODUCT = 1_000_000
COLUMNS = 64, 32


def multiply(
    a: Float[Array, "*batch N K"], w: Float[Array, "K M"], plus: Float[Array, "*#batch #N M"] | None = None
) -> Float[Array, "*batch N M"]:
    """a @ w + plus, in the pieces that NumPy does fastest: a few rows meet w's columns block by block.

    >>> multiply(np.ones((2, 1, 3)), np.eye(3), np.array([1.0, 2.0, 3.0]))[0]
    array([[2., 3., 4.]])
    """
    if type(a) is not np.ndarray:
        if plus is None or a.ndim > 2 or not is_torch(a):
            return a @ w if plus is None else a @ w + plus
        return plus.addmm(a, w)  # one operation
    if a.ndim > 2:
        product = _multiply_steps(a, w)
    elif a.shape[0] == 1 or a.size * w.shape[1] <= SMALL_PRODUCT:
        product = a.dot(w)
    else:
        product = _multiply_blocks(a, w)
    if plus is not None:
        product += plus
    return product


def _multiply_steps(a: Float[np.ndarray, "*batch N K"], w: Float[np.ndarray, "K M"]) -> np.ndarray:
    if a.shape[-2] >= 8 and math.prod(a.shape[-2:]) * w.shape[1] <= SMALL_PRODUCT:
        return a @ w  # a product for every step
    return (a.reshape(math.prod(a.shape[:-1]), a.shape[-1]) @ w).reshape(*a.shape[:-1], w.shape[1])


def _multiply_blocks(a: Float[np.ndarray, "N K"], w: Float[np.ndarray, "K M"]) -> np.ndarray:
    block = next((n for n in COLUMNS if a.size * n <= SMALL_PRODUCT and n <= w.shape[1]), None)
    if block is None or not w.flags.c_contiguous:
        return a.dot(w)
    product = np.empty((a.shape[0], w.shape[1]), a.dtype)
    cut = w.shape[1] // block * block
    parts = (m[:, :cut].reshape(len(m), -1, block).swapaxes(0, 1) for m in (w, product))  # views
    np.matmul(a, next(parts), out=next(parts))
    np.matmul(a, w[:, cut:], out=product[:, cut:])
    return product
