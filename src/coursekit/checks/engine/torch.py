"""What the engine needs of torch; imported only where torch is loaded already or the task is in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coursekit.checks.engine.calling import CallFailed, Failure

CREATED_ON_CPU = "a tensor was created on the CPU: use x.device, x.new_zeros(...) or torch.zeros_like(...)"
LEFT_DEVICE = "needs a tensor's values on the CPU: no .item(), .numpy(), .cpu(), .tolist() or if on a tensor"
CHANGED_IN_PLACE = "changed a tensor in place that autograd needs on its way back; make a new one"

CUT_OFF = Failure("detached", "", "cut off from autograd: by .detach(), .data, torch.no_grad() or NumPy?")


def OperationWatch(notice: Callable[[str], None]) -> Any:
    """A context that reports the name of every torch operation, before it runs."""
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # noqa: ANN001
            # torch.ops.aten.conv2d.default is named "conv2d.default"
            notice(getattr(function, "__name__", "").split(".")[0])
            return function(*args, **(kwargs or {}))

    return Mode()


def devices() -> list[str]:
    """Where every case of a torch task runs: the CPU, and CUDA when there is one."""
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def tensor(array: Any, device: str) -> Any:
    """A fresh tensor with the array's values on a device."""
    import torch

    return torch.as_tensor(array).to(device, copy=True)


def device_failure(error: Exception) -> Failure:
    """What an error means that was raised on the meta device."""
    text = str(error).lower()
    left = "no data" in text or "item()" in text or "cannot be called on meta" in text or "numpy" in text
    return Failure("device", "left" if left else "created", LEFT_DEVICE if left else CREATED_ON_CPU)


def _backward_failure(error: RuntimeError, device: str) -> Failure:
    """What an error means that autograd raised on its way back through a student's function."""
    if "inplace operation" in str(error):
        return Failure("exception", "in place", CHANGED_IN_PLACE)
    if device == "meta":
        return device_failure(error)
    text = " ".join(str(error).split())
    return Failure("exception", "backward", f"autograd could not go back through it: {text[:120]}")


def with_gradients(function: Callable, *arrays: Any, **options: Any) -> tuple[Any, ...]:
    """Observe y = function(*arrays) and autograd's gradients of sum(y * dy) with respect to every array.

    dy varies from entry to entry and depends on y's shape alone.
    """
    import torch

    leaves = [a.detach().requires_grad_() if torch.is_tensor(a) else a for a in arrays]
    inputs = [a for a in leaves if torch.is_tensor(a)]
    y = function(*leaves, **options)
    if type(y) is not torch.Tensor:
        return (y, *[y] * len(inputs))
    if y.device != inputs[0].device:
        raise CallFailed(Failure("device", "created", CREATED_ON_CPU))
    if not y.requires_grad:
        raise CallFailed(CUT_OFF)
    dy = torch.cos(torch.arange(y.numel(), dtype=y.dtype, device=y.device)).reshape(y.shape)
    try:
        gradients = torch.autograd.grad(y, inputs, dy, allow_unused=True)
    except RuntimeError as error:  # met going back only: an array of another device, a change in place
        raise CallFailed(_backward_failure(error, y.device.type)) from error
    return (y.detach(), *(CUT_OFF if gradient is None else gradient for gradient in gradients))
