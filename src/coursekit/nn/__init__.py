"""Modules for torch over the functions of this package: what a training loop on a GPU needs.

Importing this part imports torch; importing the rest does not.
"""

from coursekit.nn.recurrent import GRU, LSTM, RNN, unrolled

__all__ = ["GRU", "LSTM", "RNN", "unrolled"]
