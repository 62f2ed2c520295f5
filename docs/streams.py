"""Joins what a code cell printed, which the kernel sends in pieces, cut wherever it happened to send one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def joined(outputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The outputs of a cell, with neighbouring pieces of one stream in one, nothing added and nothing taken away.

    >>> def piece(text):
    ...     return {"output_type": "stream", "name": "stdout", "text": text}
    >>> picture = {"output_type": "display_data"}
    >>> [output.get("text") for output in joined([piece("3.75"), piece(" 150.0\\n"), picture, piece("True\\n")])]
    ['3.75 150.0\\n', None, 'True\\n']
    """
    whole: list[dict[str, Any]] = []
    for output in outputs:
        last = whole[-1] if whole else {}
        if output["output_type"] == last.get("output_type") == "stream" and output["name"] == last["name"]:
            whole[-1] = type(output)(last, text=last["text"] + output["text"])
        else:
            whole.append(output)
    return whole
