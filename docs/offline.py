"""Finds what a page of the site would fetch from elsewhere, which none may: no script, style, font or picture."""

from __future__ import annotations

import re

# What a browser fetches by itself; a link that a reader may click is none of it.
FETCHED = re.compile(
    r"""<(?:script|img|image|iframe|source|video|audio|embed|object|use)\b[^>]*?\b(?:src|srcset|data|href)\s*=\s*"""
    r"""["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b(?![^>]*\brel=["']?(?:canonical|license))[^>]*?\bhref\s*=\s*["']?(?:https?:)?//[^"'\s>]+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')\s]+"""
    r"""|\burl\(\s*["']?(?:https?:)?//[^"')\s]+"""
)


def fetched(text: str) -> list[str]:
    """The tags and rules of a page or a style sheet that fetch something, up to the address's end.

    >>> fetched('<a href="https://there.org">a link</a><img src="here.png">')
    []
    >>> fetched('<script src="https://there.org/x.js"></script>')
    ['<script src="https://there.org/x.js']
    """
    return FETCHED.findall(text)
