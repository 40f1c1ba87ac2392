"""Layers: functions of this package together with the parameters that they are trained with.

A layer holds its options and a dictionary of parameters, and nothing else that changes: what `backward` will
need, `forward` returns as a cache.  So one layer may serve in two places, or run twice before it runs back.

`ComplexLayer` and `Sequential` of three simple layers are the two vocabularies for one and the same thing:
convolution stage, detector stage and pooling stage.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace, device

from coursekit import arrays, detectors
from coursekit.arrays import (
    Array,
    Padding,
    ShapeError,
    Size,
    Size2,
    expect_axes,
    expect_shape,
    is_torch,
    namespace,
    output_size,
    pad,
    pad_backward,
    per_axis,
    windows,
)
from coursekit.conv import conv1d_backward, conv1d_forward, conv2d_backward, conv2d_forward
from coursekit.pooling import (
    Windows,
    avg_pool2d_backward,
    avg_pool2d_forward,
    lp_pool2d_backward,
    lp_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    place_windows,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import DTypeLike

__all__ = [
    "AvgPool2d",
    "ComplexLayer",
    "Conv1d",
    "Conv2d",
    "Dense",
    "Detector",
    "Flatten",
    "INITIALISERS",
    "Layer",
    "LocallyConnected2d",
    "LpPool2d",
    "MaxPool2d",
    "Sequential",
]

Parameters = dict[str, Array]


class Layer:
    """What every layer can do; a layer without parameters has an empty dictionary of them.

    A subclass defines forward(x) -> (y, cache) and backward(dy, cache) -> (dx, gradients), where gradients
    has the keys of parameters.
    """

    def __init__(self, parameters: Parameters | None = None) -> None:
        self.parameters = parameters or {}

    def forward(self, x: Array) -> tuple[Array, Any]:
        raise NotImplementedError

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Parameters]:
        raise NotImplementedError

    def __call__(self, x: Array) -> Array:
        """The layer's output, without the cache."""
        return self.forward(x)[0]

    @property
    def parameter_count(self) -> int:
        """How many numbers training can change."""
        return sum(math.prod(p.shape) for p in self.parameters.values())

    def with_parameters(self, parameters: Mapping[str, Array]) -> Layer:
        """The same layer with other parameters, which it holds and does not copy.

        Raises ValueError if the names differ, ShapeError if a shape does.
        """
        _expect_parameters(self, parameters)
        twin = copy.copy(self)
        twin.parameters = dict(parameters)
        return twin

    def to(self, like: Float[Array, ...]) -> Layer:
        """The same layer with its parameters as arrays of like's library, dtype and device, copied.

        >>> layer = Dense(2, 3, rng=np.random.default_rng(0)).to(np.zeros(1))
        >>> layer.parameters["w"].dtype
        dtype('float64')
        """
        return self.with_parameters({name: _convert(p, like) for name, p in self.parameters.items()})

    def __repr__(self) -> str:
        shapes = (f"{name} {tuple(p.shape)}" for name, p in self.parameters.items())
        return f"{type(self).__name__}({', '.join(shapes)})"


def he(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> np.ndarray:
    """Normal with variance 2 / fan_in: keeps the size of activations through rectifiers.  he2015delving."""
    return rng.normal(0, math.sqrt(2 / fan_in), shape)


def glorot(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> np.ndarray:
    """Uniform with variance 2 / (fan_in + fan_out): keeps activations and gradients in size.  glorot2010."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, shape)


def zeros(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> np.ndarray:
    """All zero: for a last layer, whose scores then say that every class is as likely as the others."""
    return np.zeros(shape)


INITIALISERS: dict[str, Callable[..., np.ndarray]] = {"he": he, "glorot": glorot, "zeros": zeros}


def _initial(
    init: str,
    rng: np.random.Generator,
    dtype: DTypeLike,
    w_shape: tuple[int, ...],
    b_shape: tuple[int, ...] | None,
    fans: tuple[int, int],
) -> Parameters:
    """Weights drawn by the named initialiser and, unless b_shape is None, offsets of zero."""
    if init not in INITIALISERS:
        raise ValueError(f"init {init!r} is unknown, expected one of {tuple(INITIALISERS)}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator such as default_rng(0), got {rng!r}")
    # drawn in float64 for every dtype: equal seeds give equal weights but for rounding
    parameters = {"w": INITIALISERS[init](rng, w_shape, *fans).astype(dtype)}
    return parameters if b_shape is None else parameters | {"b": np.zeros(b_shape, dtype)}


class _Convolution(Layer):
    """Convolution stage with any number of image axes."""

    axes: int
    _forward: Callable
    _backward: Callable

    def __init__(
        self,
        channels_in: int,
        filters: int,
        kernel: Size,
        *,
        stride: Size = 1,
        padding: Padding = 0,
        padding_mode: str = "zeros",
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        init: str = "he",
        rng: np.random.Generator,
        dtype: DTypeLike = "float32",
    ) -> None:
        name = type(self).__name__
        kernel = per_axis(kernel, self.axes, f"{name}: kernel", 1)
        channels_in, filters, groups = per_axis((channels_in, filters, groups), 3, f"{name}: sizes", 1)
        if channels_in % groups or filters % groups:
            raise ValueError(f"{name}: groups={groups} must divide {channels_in} channels, {filters} filters")
        taps = math.prod(kernel)
        fans = channels_in // groups * taps, filters // groups * taps
        w_shape = (filters, channels_in // groups, *kernel)
        super().__init__(_initial(init, rng, dtype, w_shape, (filters,) if bias else None, fans))
        self.options = {
            "stride": stride,
            "padding": padding,
            "padding_mode": padding_mode,
            "dilation": dilation,
            "groups": groups,
        }

    def forward(self, x: Array) -> tuple[Array, Any]:
        return self._forward(x, **self.parameters, **self.options)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Parameters]:
        gradients = self._backward(dy, cache)
        return gradients.dx, {name: getattr(gradients, f"d{name}") for name in self.parameters}


class Conv1d(_Convolution):
    """Convolution stage over signals: conv1d_forward with its parameters w (F C/groups KW) and b (F).

    channels_in, filters, kernel: sizes.
    stride, padding, padding_mode, dilation, groups: as in conv1d_forward.
    bias: whether there is a b.   init: "he", "glorot" or "zeros".   rng: draws the weights.
    """

    axes = 1
    _forward = staticmethod(conv1d_forward)
    _backward = staticmethod(conv1d_backward)


class Conv2d(_Convolution):
    """Convolution stage over images: conv2d_forward with its parameters w (F C/groups KH KW) and b (F).

    channels_in, filters, kernel: sizes.
    stride, padding, padding_mode, dilation, groups: as in conv2d_forward.
    bias: whether there is a b.   init: "he", "glorot" or "zeros".   rng: draws the weights.

    >>> Conv2d(3, 16, 5, rng=np.random.default_rng(0)).parameter_count  # 16 * 3 * 5 * 5 + 16
    1216
    """

    axes = 2
    _forward = staticmethod(conv2d_forward)
    _backward = staticmethod(conv2d_backward)


class LocallyConnected2d(Layer):
    """A convolution stage without parameter sharing: each output position has a kernel of its own.

    Parameters w (HO WO F C KH KW) and b (F HO WO).  With the same kernel at every position it is Conv2d.

    image: height and width of the images.   The other arguments are those of Conv2d.
    Raises ShapeError if x has another image size.
    Source: goodfellow2016deep, section 9.5 (unshared convolution).
    """

    def __init__(
        self,
        channels_in: int,
        filters: int,
        kernel: Size2,
        image: tuple[int, int],
        *,
        stride: Size2 = 1,
        padding: Padding = 0,
        dilation: Size2 = 1,
        bias: bool = True,
        init: str = "he",
        rng: np.random.Generator,
        dtype: DTypeLike = "float32",
    ) -> None:
        name = "LocallyConnected2d"
        self.kernel = per_axis(kernel, 2, f"{name}: kernel", 1)
        self.image = per_axis(image, 2, f"{name}: image", 1)
        channels_in, filters = per_axis((channels_in, filters), 2, f"{name}: sizes", 1)
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        count = output_size(self.image, self.kernel, **options, function=name)
        taps = math.prod(self.kernel)
        w_shape, b_shape = (*count, filters, channels_in, *self.kernel), (filters, *count)
        fans = channels_in * taps, filters * taps
        super().__init__(_initial(init, rng, dtype, w_shape, b_shape if bias else None, fans))
        self.options = options

    def forward(self, x: Float[Array, "N C H W"]) -> tuple[Float[Array, "N F HO WO"], Any]:
        function, w, b = "LocallyConnected2d.forward", self.parameters["w"], self.parameters.get("b")
        xp = namespace(x, w, b, function=function)
        expect_axes(function, "x", x, "N C H W")
        expected = (x.shape[0], w.shape[3], *self.image)
        expect_shape(function, "x", x, expected, f"every position of {self.image} pixels has its own kernel")
        place = place_windows(function, x, "N C H W", self.kernel, **self.options)
        view = windows(pad(x, place.reach), self.kernel, stride=place.stride, dilation=place.dilation)
        # one matrix product per position: its N windows of K = C KH KW pixels times its F kernels
        rows = (*place.count, x.shape[0], math.prod(w.shape[3:]))
        seen = xp.reshape(xp.permute_dims(view, (2, 3, 0, 1, 4, 5)), rows)
        y = arrays.copy(xp.permute_dims(seen @ xp.matrix_transpose(_kernel_rows(w)), (2, 3, 0, 1)))
        return (y if b is None else y + b), (seen, place)

    def backward(
        self, dy: Float[Array, "N F HO WO"], cache: Any
    ) -> tuple[Float[Array, "N C H W"], Parameters]:
        (seen, place), w = cache, self.parameters["w"]
        xp = namespace(dy, seen, function="LocallyConnected2d.backward", names=("dy", "x"))
        HO, WO, F, C, KH, KW = w.shape
        expect_shape("LocallyConnected2d.backward", "dy", dy, (seen.shape[2], F, HO, WO), "the shape of y")
        dy_rows = xp.permute_dims(dy, (2, 3, 0, 1))
        gradients = {"w": xp.reshape(xp.matrix_transpose(dy_rows) @ seen, w.shape), "b": xp.sum(dy, axis=0)}
        dview = xp.reshape(dy_rows @ _kernel_rows(w), (HO, WO, dy.shape[0], C, KH, KW))
        dx = _sum_windows(xp.permute_dims(dview, (2, 3, 4, 5, 0, 1)), place)
        return dx, {name: gradients[name] for name in self.parameters}


def _kernel_rows(w: Float[Array, "HO WO F C KH KW"]) -> Float[Array, "HO WO F K"]:
    return array_namespace(w).reshape(w, (*w.shape[:3], math.prod(w.shape[3:])))


def _sum_windows(dview: Float[Array, "N C KH KW HO WO"], place: Windows) -> Float[Array, "N C H W"]:
    """Adjoint of cutting windows: each pixel collects what the windows that saw it return."""
    xp, (N, C, KH, KW) = array_namespace(dview), dview.shape[:4]
    padded = (n + sum(p) for n, p in zip(place.size, place.reach, strict=True))
    dxp = xp.zeros((N, C, *padded), dtype=dview.dtype, device=device(dview))
    for (kh, kw), tap in zip(product(range(KH), range(KW)), place.taps(), strict=True):
        dxp[tap] += dview[:, :, kh, kw, ...]
    return pad_backward(dxp, place.reach)


class Dense(Layer):
    """Every output sees every input: y = x w + b, with w (D K) and b (K).

    features_in, features_out: D and K.   bias, init, rng, dtype: as in Conv2d.

    >>> Dense(4, 2, rng=np.random.default_rng(0))(np.ones((3, 4), "float32")).shape
    (3, 2)
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        bias: bool = True,
        init: str = "he",
        rng: np.random.Generator,
        dtype: DTypeLike = "float32",
    ) -> None:
        fans = per_axis((features_in, features_out), 2, "Dense: sizes", 1)
        super().__init__(_initial(init, rng, dtype, fans, fans[1:] if bias else None, fans))

    def forward(self, x: Float[Array, "N D"]) -> tuple[Float[Array, "N K"], Any]:
        w, b = self.parameters["w"], self.parameters.get("b")
        namespace(x, w, b, function="Dense.forward")
        if x.ndim != 2 or x.shape[1] != w.shape[0]:
            raise ShapeError(
                f"Dense.forward: x has shape {tuple(x.shape)}, expected (N, {w.shape[0]}) "
                f"for w {tuple(w.shape)}; is a Flatten() missing before?"
            )
        y = x @ w
        return (y if b is None else y + b), x

    def backward(self, dy: Float[Array, "N K"], cache: Any) -> tuple[Float[Array, "N D"], Parameters]:
        x, w = cache, self.parameters["w"]
        xp = namespace(dy, x, function="Dense.backward", names=("dy", "x"))
        expect_shape("Dense.backward", "dy", dy, (x.shape[0], w.shape[1]), "the shape of y")
        gradients = {"w": xp.matrix_transpose(x) @ dy, "b": xp.sum(dy, axis=0)}
        return dy @ xp.matrix_transpose(w), {name: gradients[name] for name in self.parameters}


class _Stateless(Layer):
    """A layer that is a pair of functions and their options, without parameters."""

    def __init__(self, forward: Callable, backward: Callable, *arguments: Any, **options: Any) -> None:
        super().__init__()
        inspect.signature(forward).bind(None, *arguments, **options)  # a wrong option fails here, not later
        self._forward, self._backward = forward, backward
        self._arguments, self._options = arguments, options

    def forward(self, x: Array) -> tuple[Array, Any]:
        return self._forward(x, *self._arguments, **self._options)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Parameters]:
        return self._backward(dy, cache), {}

    def __repr__(self) -> str:
        options = [repr(a) for a in self._arguments] + [f"{k}={v!r}" for k, v in self._options.items()]
        return f"{type(self).__name__}({', '.join(options)})"


class MaxPool2d(_Stateless):
    """Pooling stage that keeps the largest pixel of each window.

    kernel: pixels per window.   options: stride, padding, dilation, ceil_mode as in max_pool2d_forward.
    """

    def __init__(self, kernel: Size2, **options: Any) -> None:
        super().__init__(max_pool2d_forward, max_pool2d_backward, kernel, **options)


class AvgPool2d(_Stateless):
    """Pooling stage that averages each window.

    kernel: pixels per window.   options: those of avg_pool2d_forward.
    """

    def __init__(self, kernel: Size2, **options: Any) -> None:
        super().__init__(avg_pool2d_forward, avg_pool2d_backward, kernel, **options)


class LpPool2d(_Stateless):
    """Pooling stage that takes the L_p norm of each window.

    kernel: pixels per window.   options: p and the others of lp_pool2d_forward.
    """

    def __init__(self, kernel: Size2, **options: Any) -> None:
        super().__init__(lp_pool2d_forward, lp_pool2d_backward, kernel, **options)


class Detector(_Stateless):
    """Detector stage: one of the non-linearities of coursekit.detectors, by name.

    name: "relu", "leaky_relu", "sigmoid", "tanh", "softplus", "identity", "absolute" or "maxout".
    options: those of the function, such as slope or pieces.

    >>> Detector("relu")(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def __init__(self, name: str = "relu", **options: Any) -> None:
        pair = [getattr(detectors, f"{name}_{way}", None) for way in ("forward", "backward")]
        if None in pair:
            known = [f.removesuffix("_forward") for f in detectors.__all__ if f.endswith("_forward")]
            raise ValueError(f"Detector: {name!r} is unknown, expected one of {known}")
        super().__init__(*pair, **options)
        self.name = name

    def __repr__(self) -> str:
        options = [f"{k}={v!r}" for k, v in self._options.items()]
        return f"Detector({', '.join([repr(self.name), *options])})"


class Flatten(Layer):
    """Join all axes but the first, for the dense layer that follows: N C H W becomes N D."""

    def forward(self, x: Float[Array, "N ..."]) -> tuple[Float[Array, "N D"], Any]:
        xp = namespace(x, function="Flatten.forward")
        return xp.reshape(x, (x.shape[0], math.prod(x.shape[1:]))), x.shape

    def backward(self, dy: Float[Array, "N D"], cache: Any) -> tuple[Float[Array, "N ..."], Parameters]:
        xp = namespace(dy, function="Flatten.backward", names=("dy",))
        expect_shape("Flatten.backward", "dy", dy, (cache[0], math.prod(cache[1:])), "the shape of y")
        return xp.reshape(dy, cache), {}


class ComplexLayer(Layer):
    """One convolutional layer in the complex vocabulary: convolution, detector and pooling are its stages.

    Its parameters are those of the convolution stage; the other two have none.  Sequential(convolution,
    detector, pooling) computes the same in the simple vocabulary, where each stage is a layer.

    Source: goodfellow2016deep, figure 9.7.

    >>> layer = ComplexLayer(Conv2d(1, 4, 3, rng=np.random.default_rng(0)), Detector("relu"), MaxPool2d(2))
    >>> layer(np.ones((1, 1, 8, 6), "float32")).shape, layer.parameter_count
    ((1, 4, 3, 2), 40)
    """

    def __init__(self, convolution: Layer, detector: Layer, pooling: Layer) -> None:
        if detector.parameters or pooling.parameters:
            raise ValueError(
                "ComplexLayer: only the convolution stage may have parameters, "
                f"got detector {detector}, pooling {pooling}"
            )
        super().__init__(convolution.parameters)
        self.convolution, self.detector, self.pooling = convolution, detector, pooling

    def forward(self, x: Array) -> tuple[Array, Any]:
        z, convolved = self.convolution.forward(x)
        a, detected = self.detector.forward(z)
        y, pooled = self.pooling.forward(a)
        return y, (convolved, detected, pooled)

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Parameters]:
        convolved, detected, pooled = cache
        da, _ = self.pooling.backward(dy, pooled)
        dz, _ = self.detector.backward(da, detected)
        return self.convolution.backward(dz, convolved)

    def with_parameters(self, parameters: Mapping[str, Array]) -> ComplexLayer:
        return ComplexLayer(self.convolution.with_parameters(parameters), self.detector, self.pooling)

    def __repr__(self) -> str:
        return f"ComplexLayer({self.convolution}, {self.detector}, {self.pooling})"


class Sequential(Layer):
    """Layers one after the other; parameter "w" of layer 0 is called "0.w".

    >>> rng = np.random.default_rng(0)
    >>> net = Sequential(Conv2d(1, 2, 3, rng=rng), Detector("relu"), Flatten(), Dense(8, 10, rng=rng))
    >>> print(net.summary(np.zeros((1, 1, 4, 4), "float32")))
    layer                           output        parameters
    Conv2d(w (2, 1, 3, 3), b (2,))  (1, 2, 2, 2)          20
    Detector('relu')                (1, 2, 2, 2)           0
    Flatten()                       (1, 8)                 0
    Dense(w (8, 10), b (10,))       (1, 10)               90
    total                                                110
    """

    def __init__(self, *layers: Layer) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential: argument {i} is a {type(layer).__name__}, not a Layer")
        self.layers = layers
        super().__init__(
            {f"{i}.{name}": p for i, layer in enumerate(layers) for name, p in layer.parameters.items()}
        )

    def forward(self, x: Array) -> tuple[Array, Any]:
        caches = []
        for layer in self.layers:
            x, cache = layer.forward(x)
            caches.append(cache)
        return x, caches

    def backward(self, dy: Array, cache: Any) -> tuple[Array, Parameters]:
        gradients = {}
        for i, layer in reversed(list(enumerate(self.layers))):
            dy, own = layer.backward(dy, cache[i])
            gradients |= {f"{i}.{name}": gradient for name, gradient in own.items()}
        return dy, gradients

    def with_parameters(self, parameters: Mapping[str, Array]) -> Sequential:
        _expect_parameters(self, parameters)
        return Sequential(
            *(
                layer.with_parameters({name: parameters[f"{i}.{name}"] for name in layer.parameters})
                for i, layer in enumerate(self.layers)
            )
        )

    def summary(self, x: Array) -> str:
        """A table of the layers, their outputs' shapes for the input x, and their numbers of parameters."""
        rows = [("layer", "output", "parameters")]
        for layer in self.layers:
            x = layer(x)
            rows.append((repr(layer), str(tuple(x.shape)), str(layer.parameter_count)))
        rows.append(("total", "", str(self.parameter_count)))
        layer, output, count = (max(map(len, column)) for column in zip(*rows, strict=True))
        return "\n".join(f"{a:{layer}}  {b:{output}}  {c:>{count}}" for a, b, c in rows)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"


def _expect_parameters(layer: Layer, parameters: Mapping[str, Array]) -> None:
    if set(parameters) != set(layer.parameters):
        raise ValueError(f"{layer} has parameters {sorted(layer.parameters)}, got {sorted(parameters)}")
    for name, parameter in layer.parameters.items():
        expect_shape(f"{layer}.with_parameters", name, parameters[name], parameter.shape, "the shape it had")


def _convert(array: Array, like: Array) -> Array:
    xp = namespace(like, function="Layer.to", names=("like",))
    if is_torch(array):
        array = array.detach() if is_torch(like) else array.detach().cpu().numpy()
    elif is_torch(like):
        array = arrays.copy(array)  # torch reads no negative strides
    return xp.asarray(array, dtype=like.dtype, device=device(like), copy=True)
