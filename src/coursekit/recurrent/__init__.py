"""Recurrent layers: a cell run along sequences, forward and backward through time.

`unroll` runs any cell of `coursekit.cells`; `unroll_backward` is backpropagation through time.  Sequences may
have different lengths: a sequence that has ended keeps its state, and its outputs are zero.  In reverse, a
sequence is read from its own last step on, not from the padding's.
"""

from coursekit.recurrent.layers import GRU, LSTM, RNN, LastStep, stack_backward, stack_forward
from coursekit.recurrent.loss import (
    SequenceCache,
    SequenceGradients,
    sequence_loss_backward,
    sequence_loss_forward,
)
from coursekit.recurrent.sequences import (
    GRUGradients,
    LSTMGradients,
    RNNGradients,
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
    rnn_backward,
    rnn_forward,
)
from coursekit.recurrent.unrolling import Trace, go_back, reverse_sequences, unroll, unroll_backward

__all__ = [
    "GRU",
    "GRUGradients",
    "LSTM",
    "LSTMGradients",
    "LastStep",
    "RNN",
    "RNNGradients",
    "SequenceCache",
    "SequenceGradients",
    "Trace",
    "go_back",
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "reverse_sequences",
    "rnn_backward",
    "rnn_forward",
    "sequence_loss_backward",
    "sequence_loss_forward",
    "stack_backward",
    "stack_forward",
    "unroll",
    "unroll_backward",
]
