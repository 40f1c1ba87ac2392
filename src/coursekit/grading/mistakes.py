"""Typical mistakes of the demo class, by student: in which solution cell which code becomes which."""

from __future__ import annotations

MISTAKES: dict[str, dict[str, tuple[str, str, str]]] = {
    "conv": {
        "flipped-kernel": ("conv2d-forward", "w[:, :, k, l]", "w[:, :, -1 - k, -1 - l]"),
        "lost-window": ("conv1d-forward", "w.shape[2], stride=stride)", "w.shape[2], stride=stride) - 1"),
        "one-side-padded": ("conv2d-forward", "(0, 0), *pads", "(0, 0), (pads[0][0], 0), (pads[1][0], 0)"),
        "turned-stride": ("conv2d-forward", "xp = np.pad(", "stride = stride[::-1]\n    xp = np.pad("),
        "minus-zero": (
            "conv2d-backward",
            "top : top + x.shape[2], left : left + x.shape[3]",
            "top:-bottom, left:-right",
        ),
        "overwriting": ("conv2d-backward", "along] += np", "along] = np"),
        "lost-factor": ("conv2d-backward", '->fc", dy, xp', '->fc", np.ones_like(dy), xp'),
        "wide-kernel": ("effective-kernel", "dilation * (kernel - 1) + 1", "dilation * kernel"),
        "early-stride": ("receptive-field", "size += step * (", "size += step * stride * ("),
        "on-the-cpu": ("depthwise-conv2d", "torch.zeros_like(x)", "torch.zeros(x.shape, dtype=x.dtype)"),
    },
    "pooling": {
        "gate-by-dy": ("detector-backward", "np.where(u > 0, dy", "np.where(dy > 0, dy"),
        "zero-padding": ("max-pool-forward", "pad_image(x, padding, -np.inf)", "pad_image(x, padding, 0)"),
        "overwriting": ("max-pool-backward", "left + column] += dy", "left + column] = dy"),
        "border-count": ("average-pool-forward", "if count_padding else", "if True else"),
        "late-bias": (
            "complex-layer",
            "detector_forward(convolve(x, w) + b[:, None, None], 0.0)",
            "detector_forward(convolve(x, w), 0.0) + b[:, None, None]",
        ),
        "no-shift": ("cross-entropy-forward", "shifted = z - z.max(axis=1, keepdims=True)", "shifted = z"),
        "sum-of-losses": ("cross-entropy-backward", " / len(z)", ""),
    },
    "equivariance": {
        "shared-kernel": ("local-forward", "w[p]) + b[p]", "w[0]) + b[p]"),
        "invariance": ("equivariance-error", "norm(y_moved - along)", "norm(y_moved - y)"),
        "counted-changes": ("unchanged-share", "(before == after)", "(before != after)"),
        "unfolded-wave": ("apparent-frequency", "abs(turns - round(turns))", "turns % 1"),
    },
    "clipping": {
        "one-sided": ("clip-by-value", "np.clip(g, -limit, limit)", "np.minimum(g, limit)"),
        "share-kept": ("clip-by-value", "np.abs(g) > limit", "np.abs(g) <= limit"),
        "each-alone": ("clip-by-norm", "g * factor", "g * min(1, limit / max(np.linalg.norm(g), 1e-9))"),
        "scaled-up": ("clip-by-norm", "limit / norm if norm > limit else 1.0", "limit / norm"),
        "wrong-norm": ("clip-by-norm", "}, norm", "}, min(norm, limit)"),
        "raw-step": ("train", "in gradients.items()}", "in gradient_of(parameters, batch).items()}"),
        "broken-step": ("train", "if math.isfinite(norm):", "if True:"),
    },
    "recurrence": {
        "own-value-added": ("synchronous-step", "a = x + b", "a = h + x + b"),
        "backwards": ("connection-kinds", "source not in reached(target) or ", ""),
        "start-at-zero": ("unfold-edges", "(source, t - delay,", "(source, max(0, t - delay),"),
        "no-sharing": ("unfold-edges", "len(set(edges[:, 3].tolist()))", "steps * len(edges)"),
        "forgetful": ("rnn-forward", "state = h0", "state = np.zeros_like(h0)"),
        "transposed-w": ("rnn-forward", "state @ w", "state @ w.T"),
        "overflow": ("sequence-loss", "shifted = o - o.max(axis=2, keepdims=True)", "shifted = o"),
        "sum-of-losses": ("sequence-loss", ".mean())", ".sum())"),
    },
    "bptt": {
        "no-mean": ("output-gradient", "(p - y) / labels.size", "p - y"),
        "overwriting": ("head-backward", "dv += h", "dv = h"),
        "lost-slope": ("step-backward", "g * (1 - after**2)", "g"),
        "dropped-path": ("state-backward", "dh[:, t] + carried", "dh[:, t]"),
        "late-state": ("weight-gradients", "before.T @ dz", "h[:, t].T @ dz"),
        "reset-state": ("truncated-backward", "h[:, t - 1] if t > 0 else h0", "h[:, t - 1] if t % k else h0"),
        "determinant": (
            "jacobian",
            "np.linalg.norm(product, 2, axis=(1, 2))",
            "np.abs(np.linalg.det(product))",
        ),
        "one-sided-width": ("gradient-error", "/ (2 * eps)", "/ eps"),
        "first-path-only": ("sequence-gradients", "(x, h, h0, dz)", "(x, h, h0, dh)"),
        "cut-start": ("truncated-forward", "if t > 0 and t % k", "if t % k"),
    },
}
