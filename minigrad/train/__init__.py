"""Training: fit, what it reports and keeps; and, in train.digits, a network for the digits as an example."""

from minigrad.train.callbacks import Checkpoint, CSVLogger, EarlyStopping, TensorBoardLogger
from minigrad.train.checkpoint import load_checkpoint, save_checkpoint
from minigrad.train.evaluation import NonFiniteError, accuracy, binary_accuracy, evaluate, mae, mse
from minigrad.train.fit import fit
from minigrad.train.history import History
from minigrad.train.lints import LINTS, Lints, LintWarning
from minigrad.train.state import Callback, State

__all__ = [
    "LINTS",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "LintWarning",
    "Lints",
    "NonFiniteError",
    "State",
    "TensorBoardLogger",
    "accuracy",
    "binary_accuracy",
    "evaluate",
    "fit",
    "load_checkpoint",
    "mae",
    "mse",
    "save_checkpoint",
]
