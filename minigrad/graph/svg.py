"""SVG as text: escaping, the width of words, and the style that all pictures share.

No element has an id, so that any number of pictures can stand on one page. The colours are the page's: text and
forward arrows are `currentColor`, backward ones a mixture with it. An SVG that is a document of its own, as in <img>,
has no page around it, and brings colours and a ground for light and dark (`:root` matches it only then).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["FONT", "STYLE", "clean", "document", "element", "escape", "ranges", "shorten", "width"]

FONT = "Helvetica, Arial, 'Liberation Sans', 'Noto Sans', 'Noto Sans CJK KR', sans-serif"
_BACK = "#c2410c"

STYLE = f"""
.mg{{font:13px {FONT};fill:none;stroke:none;stroke-width:1.3}}
.mg text{{fill:currentColor}}
.mg .ground{{fill:none}}
.mg .shape,.mg .forward,.mg .note{{stroke:currentColor}}
.mg .forward .head{{fill:currentColor;stroke:none}}
.mg .backward{{stroke:{_BACK};stroke:color-mix(in srgb,currentColor 15%,#d9480f);stroke-width:1.6}}
.mg .backward .head,.mg text.gradient{{fill:{_BACK};fill:color-mix(in srgb,currentColor 15%,#d9480f);stroke:none}}
.mg .symbol{{font-size:16px}}
.mg .name{{font-size:15px}}
.mg .small,.mg .argument{{font-size:11px;opacity:.75}}
.mg .argument{{font-style:italic}}
.mg .bad rect{{fill:#c92a2a}}
.mg .bad text{{fill:#fff;font-weight:bold}}
.mg .dashed{{stroke-dasharray:6 4;opacity:.8}}
.mg .dotted{{stroke-dasharray:1.5 4;opacity:.6}}
svg.mg:root{{color:#1b1b1b}}
svg.mg:root .ground{{fill:#fff}}
@media (prefers-color-scheme:dark){{svg.mg:root{{color:#e4e4e4}}svg.mg:root .ground{{fill:#17181b}}}}
""".replace("\n", "")


def clean(text: str) -> str:
    """text as one line without control characters and such that XML does not allow.

    >>> clean("a\\x00b\\nc")
    'a b c'
    """
    return "".join(c if c.isprintable() else " " for c in str(text))


def escape(text: object) -> str:
    """text such that it is text, in an element and in an attribute.

    >>> escape('<script>"&')
    '&lt;script&gt;&quot;&amp;'
    """
    text = clean(str(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("'", "&#39;")


def shorten(text: str, most: int) -> str:
    """text, with … in its middle where it is longer than `most`."""
    text = clean(text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def element(tag: str, *content: str, **attributes: object) -> str:
    """<tag ...>content</tag>. Attributes are escaped, content is markup. _ in a name is -, class_ is class.

    >>> element("text", escape("a<b"), x=1.5, y=2, class_="name")
    '<text x="1.5" y="2" class="name">a&lt;b</text>'
    """
    parts = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return f"<{tag}{parts}>{''.join(content)}</{tag}>" if content else f"<{tag}{parts}/>"


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as the attributes of a picture have them, each once: what follows each other from the first to the last.

    >>> ranges([7, 3, 4, 5])
    '3-5 7'
    """
    runs: list[list[int]] = []
    for n in sorted(set(numbers)):
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


_WIDTHS = {**dict.fromkeys("iljtfrI.,:;|!'()[] ", 0.36), **dict.fromkeys("mwMW%", 0.95), **dict.fromkeys("@…—", 1.02)}


def width(text: str, size: float = 13) -> float:
    """How wide text is at most in Helvetica, Arial and the fonts made to their measure: an estimate.

    >>> width("−0.5", 10) >= 19.7
    True
    """
    total = 0.0
    for c in text:
        if c in _WIDTHS:
            total += _WIDTHS[c]
        elif unicodedata.east_asian_width(c) in "WF":
            total += 1.0
        elif ord(c) > 0x2FF and c != "−":
            total += 0.0 if unicodedata.combining(c) else 0.88
        else:
            total += 0.78 if c.isupper() else 0.585
    return total * size


def document(parts: Iterable[str], box: tuple[float, float, float, float], title: str, description: str) -> str:
    """A whole picture. box: left, top, width and height of what is shown."""
    left, top, w, h = box
    ground = element("rect", x=left, y=top, width=w, height=h, class_="ground")
    return element(
        "svg",
        element("title", escape(title)),
        element("desc", escape(description)),
        f"<style>{STYLE}</style>",
        ground,
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"{left:g} {top:g} {w:g} {h:g}",
        width=f"{w:g}",
        height=f"{h:g}",
        class_="mg",
        role="img",
        aria_label=title,
    )
