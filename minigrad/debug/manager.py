"""What the tools of debug have in common: `with tool():`, `@tool()` and `@tool`, in one context alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from minigrad.autograd import _Recording

__all__ = ["Manager"]

_opened: ContextVar[tuple[AbstractContextManager[Any], ...]] = ContextVar("minigrad_debug_opened", default=())


class Manager(_Recording):
    """A context manager and decorator, as no_grad is; opened() gives the manager of what holds within.

    One instance may be entered several times, also by several threads: what is open is noted by context.
    """

    def __new__(cls, f: Callable[..., Any] | None = None, **options: Any) -> Any:
        """The manager; or f decorated, for @tool without parentheses."""
        manager = object.__new__(cls)
        if f is None:
            return manager
        manager.__init__(**options)  # type: ignore[misc]  # what __new__ returns is no manager, and not initialised
        return manager(f)

    def opened(self) -> AbstractContextManager[Any]:
        """What holds within."""
        raise NotImplementedError

    def __enter__(self) -> None:
        manager = self.opened()
        manager.__enter__()
        _opened.set((*_opened.get(), manager))

    def __exit__(self, *exc: Any) -> None:
        *rest, manager = _opened.get()
        _opened.set(tuple(rest))
        manager.__exit__(*exc)
