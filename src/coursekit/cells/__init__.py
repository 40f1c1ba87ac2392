"""Recurrent cells: what happens in one time step, forward and backward, and how the weights start.

A cell splits its work in two.  `project` is the input's part, which needs no state: one matrix product does
it for all steps at once.  `step` is the rest, and must wait for the step before.  Backward, `local_slopes` is
what no gradient is needed for, `step_backward` goes back step by step, and `gradients` collects the weights'
gradients in one product; what step_backward gives it has `dz_columns` columns.
`coursekit.recurrent` runs any cell along a sequence.
"""

from coursekit.cells.activations import ACTIVATIONS, Activation, named_activation
from coursekit.cells.gru import (
    GRUCell,
    GRUCellGradients,
    GRUStepGradients,
    gru_step_backward,
    gru_step_forward,
)
from coursekit.cells.initial import (
    RECURRENT_INITIALISERS,
    initial_gru_weights,
    initial_lstm_weights,
    initial_weights,
)
from coursekit.cells.lstm import (
    LSTMCell,
    LSTMCellGradients,
    LSTMState,
    LSTMStepGradients,
    lstm_blocks,
    lstm_step_backward,
    lstm_step_forward,
)
from coursekit.cells.rnn import (
    RNNCell,
    RNNCellGradients,
    RNNState,
    RNNStepGradients,
    rnn_step_backward,
    rnn_step_forward,
)

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "GRUCell",
    "GRUCellGradients",
    "GRUStepGradients",
    "LSTMCell",
    "LSTMCellGradients",
    "LSTMState",
    "LSTMStepGradients",
    "RECURRENT_INITIALISERS",
    "RNNCell",
    "RNNCellGradients",
    "RNNState",
    "RNNStepGradients",
    "gru_step_backward",
    "gru_step_forward",
    "initial_gru_weights",
    "initial_lstm_weights",
    "initial_weights",
    "lstm_blocks",
    "lstm_step_backward",
    "lstm_step_forward",
    "named_activation",
    "rnn_step_backward",
    "rnn_step_forward",
]
