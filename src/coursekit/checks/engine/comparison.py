"""Compare a result with the expected one: type, shape, dtype, device, finite, values, in that order."""

from __future__ import annotations

import reprlib
import sys
from typing import Any

import numpy as np

# Relative to the largest expected entry.  Sums of some hundred products in another order differ by far
# less; a wrong factor or a dropped term by far more.
TOLERANCE = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}


def is_tensor(value: Any) -> bool:
    """Whether the value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def difference(got: Any, expected: Any, name: str, tolerance: float | None = None) -> str | None:
    """One line on the first way in which got differs from expected, None where it does not.

    tolerance: relative to the largest expected entry; None takes what the dtype allows.
    """
    if got is None and expected is not None:
        return f"{name} is None; does the function return it?"
    if is_tensor(expected) or isinstance(expected, np.ndarray) and expected.ndim:
        return _array_difference(got, expected, name, tolerance)
    if isinstance(expected, tuple):
        return _tuple_difference(got, expected, name, tolerance)
    if isinstance(expected, dict):
        return _dict_difference(got, expected, name, tolerance)
    return _plain_difference(got, expected, name)


def same(first: Any, second: Any) -> bool:
    """Whether two results show the same mistake: no difference either way, but for rounding in float32."""
    if type(first) is list and type(second) is list:
        first, second = tuple(first), tuple(second)
    pairs = ((first, second), (second, first))
    return all(difference(got, expected, "", TOLERANCE["float32"]) is None for got, expected in pairs)


def _array_difference(got: Any, expected: Any, name: str, tolerance: float | None) -> str | None:
    wanted = "a torch tensor" if is_tensor(expected) else "a NumPy array"
    if type(got).__name__ == "Parameter" and is_tensor(got):
        got = got.data
    if type(got) is not type(expected):
        return f"{name} is of type {_type_name(got)}, expected {wanted}"
    if tuple(got.shape) != tuple(expected.shape):
        return f"{name} has shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if not _same_dtype(got, expected):
        return f"{name} has dtype {_dtype(got)}, expected {_dtype(expected)}"
    if is_tensor(expected):
        if got.device != expected.device:
            return f"{name} is on device {got.device}, expected {expected.device}"
        if expected.is_meta:
            return None
        got, expected = got.detach().cpu().numpy(), expected.detach().cpu().numpy()
    return _value_difference(got, expected, name, tolerance or TOLERANCE.get(expected.dtype.name, 0.0))


def _same_dtype(got: Any, expected: Any) -> bool:
    """Equal, or both whole numbers in NumPy: np.arange gives int32 on some platforms, int64 on others."""
    whole = not is_tensor(got) and {got.dtype.kind, expected.dtype.kind} <= {"i", "u"}
    return whole or got.dtype == expected.dtype


def _value_difference(got: np.ndarray, expected: np.ndarray, name: str, tolerance: float) -> str | None:
    if expected.dtype.kind not in "fc":
        wrong = got != expected
    else:
        odd = ~np.isfinite(got) & np.isfinite(expected)
        if odd.any():
            at = _first(odd)
            return f"{_entry(name, at)} is {got[at]}; {odd.sum()} of {odd.size} entries are not finite"
        wrong = ~np.isclose(got, expected, rtol=0, atol=tolerance * _scale(expected), equal_nan=True)
    if not wrong.any():
        return None
    at = _first(wrong)
    return (
        f"{_entry(name, at)} is {_contrast(got[at], expected[at])}; "
        f"{wrong.sum()} of {wrong.size} entries differ"
    )


def _tuple_difference(got: Any, expected: tuple, name: str, tolerance: float | None) -> str | None:
    if type(got) not in (tuple, type(expected)):
        return f"{name} is of type {_type_name(got)}, expected a tuple of {len(expected)}"
    if len(got) != len(expected):
        return f"{name} is a tuple of {len(got)}, expected {len(expected)}"
    pairs = enumerate(zip(got, expected, strict=True))
    parts = (difference(g, e, f"{name}[{i}]", tolerance) for i, (g, e) in pairs)
    return next((part for part in parts if part), None)


def _dict_difference(got: Any, expected: dict, name: str, tolerance: float | None) -> str | None:
    if type(got) is not dict:
        return f"{name} is of type {_type_name(got)}, expected a dict"
    if set(got) != set(expected):
        keys = [", ".join(sorted(map(repr, keys))) or "none" for keys in (got, expected)]
        return f"{name} has the keys {keys[0]}, expected {keys[1]}"
    parts = (difference(got[key], value, f"{name}[{key!r}]", tolerance) for key, value in expected.items())
    return next((part for part in parts if part), None)


def _plain_difference(got: Any, expected: Any, name: str) -> str | None:
    """Numbers, strings, booleans and None; NumPy's scalars and 0-d arrays count as numbers."""
    got, expected = _plain(got), _plain(expected)
    # by exact type, so that no object with a helpful __eq__ passes
    if type(got) is not type(expected) and (type(got), type(expected)) != (int, float):
        hint = "; int(...) and // make one" if (type(got), type(expected)) == (float, int) else ""
        return f"{name} is of type {_type_name(got)}{_shown(got)}, expected {_type_name(expected)}{hint}"
    if type(expected) is float:
        if not np.isfinite(got) and np.isfinite(expected):
            return f"{name} is {got}, expected {_show(expected)}"
        right = np.isclose(got, expected, rtol=1e-6, atol=1e-9, equal_nan=True)
    else:
        right = got == expected
    return None if right else f"{name} is {_contrast(got, expected)}"


def _plain(value: Any) -> Any:
    if type(value) is np.ndarray and value.ndim == 0 or isinstance(value, np.generic):
        return value.item()
    return value


def _contrast(got: Any, expected: Any) -> str:
    """Both values, with as many digits as it takes to see them differ."""
    pairs = ([_show(value, digits) for value in (got, expected)] for digits in (5, 9, 17))
    shown = next((pair for pair in pairs if pair[0] != pair[1]), ["different", "equal"])
    return f"{shown[0]}, expected {shown[1]}"


def _show(value: Any, digits: int = 5) -> str:
    return f"{value:.{digits}g}" if isinstance(value, (float, np.floating)) else reprlib.repr(_plain(value))


def _shown(value: Any) -> str:
    return f" ({reprlib.repr(value)})" if type(value) in (int, float, bool, str, tuple, list) else ""


def _type_name(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _dtype(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")


def _scale(expected: np.ndarray) -> float:
    finite = np.abs(expected[np.isfinite(expected)])
    return max(1.0, float(finite.max(initial=0.0)))


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _entry(name: str, index: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, index))}]"
