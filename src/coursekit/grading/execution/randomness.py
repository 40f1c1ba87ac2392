"""One stream of global random numbers for two processes: whoever draws or seeds tells the other."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np

from coursekit.grading.execution.codec import BadData


class Streams:
    """The global generators of `random`, NumPy and torch in this process, and what the other side knows."""

    def __init__(self) -> None:
        self._known = {name: mark for name, (_, mark) in _states().items()}

    def news(self) -> list:
        """[name, state] of each generator that has changed since the other side last heard of it."""
        states, known = _states(), self._known
        self._known = {name: mark for name, (_, mark) in states.items()}
        return [[name, state] for name, (state, mark) in states.items() if known.get(name) != mark]

    def adopt(self, news: Any) -> None:
        """Take over the states that the other side tells; BadData where they are none."""
        try:
            for name, state in news:
                _SETTERS[name](state)
        except Exception as error:  # whatever a generator says of a state that is none
            raise BadData("the state of a random generator is malformed") from error
        self._known = {name: mark for name, (_, mark) in _states().items()}


def _states() -> dict[str, tuple[Any, Any]]:
    """The state of each generator, and a mark that is another one for another state."""
    plain, (kind, key, *rest) = random.getstate(), np.random.get_state(legacy=True)
    found = {"random": (plain, plain), "numpy": ((kind, key, *rest), (key.tobytes(), *rest))}
    if "torch" in sys.modules:
        import torch

        state = torch.get_rng_state().numpy()
        found["torch"] = state, state.tobytes()
    return found


def _set_torch(state: np.ndarray) -> None:
    import torch

    torch.set_rng_state(torch.from_numpy(np.array(state, np.uint8)))


_SETTERS = {"random": random.setstate, "numpy": np.random.set_state, "torch": _set_torch}
