"""Gradients, compared with numerical ones: minigrad's, your own or anyone's.

Hypothesis strategies are in minigrad.testing.strategies, which needs hypothesis; all else works with NumPy alone, or
says what to install.
"""

from minigrad.testing.check_op import check_op
from minigrad.testing.frozen import frozen_rng
from minigrad.testing.fused import check_fused
from minigrad.testing.gradcheck import gradcheck
from minigrad.testing.layers import check_gradient, check_layer
from minigrad.testing.models import ModelReport, ParameterRow, check_model
from minigrad.testing.mutations import Mutant, MutationReport, mutation_score
from minigrad.testing.numerical import numerical_diff, numerical_gradient, numerical_jacobian
from minigrad.testing.property import gradient_property
from minigrad.testing.report import VERDICTS, Finding, GradcheckReport
from minigrad.testing.study import StepSizeStudy, step_size_study

__all__ = [
    "VERDICTS",
    "Finding",
    "GradcheckReport",
    "ModelReport",
    "Mutant",
    "MutationReport",
    "ParameterRow",
    "StepSizeStudy",
    "check_fused",
    "check_gradient",
    "check_layer",
    "check_model",
    "check_op",
    "frozen_rng",
    "gradcheck",
    "gradient_property",
    "mutation_score",
    "numerical_diff",
    "numerical_gradient",
    "numerical_jacobian",
    "step_size_study",
]
