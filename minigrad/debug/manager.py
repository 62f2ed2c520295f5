"""What the tools of debug have in common: `with tool():`, `@tool()` and `@tool`, in one context alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from minigrad.autograd import _Recording
from minigrad.errors import DTypeError, describe

__all__ = ["Manager"]

_opened: ContextVar[tuple[AbstractContextManager[Any], ...]] = ContextVar("minigrad_debug_opened", default=())


class Manager(_Recording):
    """A context manager and decorator, as no_grad is; opened() gives the manager of what holds within.

    One instance may be entered several times, also by several threads: what is open is noted by context. Each ends
    what it has begun itself, in whatever order they end.
    """

    def __new__(cls, f: Callable[..., Any] | None = None, **options: Any) -> Any:
        """The manager; or f decorated, for @tool without parentheses."""
        manager = object.__new__(cls)
        if f is None:
            return manager
        if not callable(f):
            raise DTypeError(
                f"debug.{cls.__name__}",
                f"{describe(f)} as its first argument",
                "a function to decorate, or no argument",
                f"write {cls.__name__}({cls.meant(f)})",
            )
        manager.__init__(**options)  # type: ignore[misc]  # what __new__ returns is no manager, and not initialised
        return manager(f)

    def __init__(self, f: Callable[..., Any] | None = None) -> None:
        """Without options."""

    @staticmethod
    def meant(value: Any) -> str:
        """The options that somebody may have meant who gave this value without a name."""
        return ""

    def opened(self) -> AbstractContextManager[Any]:
        """What holds within."""
        raise NotImplementedError

    def __enter__(self) -> None:
        manager = self.opened()
        manager.__enter__()
        self.__dict__.setdefault("mine", []).append(manager)
        _opened.set((*_opened.get(), manager))

    def __exit__(self, *exc: Any) -> None:
        mine = self.__dict__["mine"]
        # An async generator may be closed in another context than the one that it was begun in.
        manager = next((other for other in reversed(_opened.get()) if other in mine), mine[-1])
        mine.remove(manager)
        _opened.set(tuple(other for other in _opened.get() if other is not manager))
        manager.__exit__(*exc)
