"""Training: fit, what it reports and keeps; and, in train.digits, a network for the digits as an example."""

from minigrad.train.callbacks import Callback, Checkpoint, CSVLogger, EarlyStopping, State, TensorBoardLogger
from minigrad.train.checkpoint import load_checkpoint, save_checkpoint
from minigrad.train.evaluation import NonFiniteError, evaluate
from minigrad.train.fit import fit
from minigrad.train.history import History
from minigrad.train.lints import LINTS, Lints, LintWarning

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
    "evaluate",
    "fit",
    "load_checkpoint",
    "save_checkpoint",
]
