"""Where does the nan come from, who wrote into that array, and what takes so long: tools that look on while ops run.

They cost nothing while they are off, and hold for the current thread or asyncio task and for tasks begun within.

>>> import minigrad as mg
>>> x = mg.Tensor([1.0, 0.0], requires_grad=True)
>>> report = mg.debug.trace_nonfinite(mg.sqrt(x).sum())
>>> report.function, report.value, report.index
('sqrt.backward', inf, (1,))
"""

from minigrad.debug.anomaly import detect_anomaly
from minigrad.debug.guard import guard_saved
from minigrad.debug.nonfinite import trace_nonfinite
from minigrad.debug.profiler import Profile, profile
from minigrad.debug.report import AnomalyError, NonfiniteReport

__all__ = [
    "AnomalyError",
    "NonfiniteReport",
    "Profile",
    "detect_anomaly",
    "guard_saved",
    "profile",
    "trace_nonfinite",
]
