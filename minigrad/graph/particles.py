"""Korean particles, whose form depends on the last sound of what stands before them: 노드는, but 기울기값은."""

from __future__ import annotations

import re

__all__ = ["PARTICLE", "final_sound", "particle"]

# A particle as the table writes it: what follows a final consonant, what follows a vowel
_FORMS = {
    "은(는)": ("은", "는"),
    "이(가)": ("이", "가"),
    "을(를)": ("을", "를"),
    "과(와)": ("과", "와"),
    "(으)로": ("으로", "로"),
}
PARTICLE = re.compile("|".join(map(re.escape, _FORMS)))

# The final sound of what is read aloud: "" a vowel, "l" ㄹ, "n" any other. Letters by their names: 엘, 엠, 엔, 알.
_DIGITS = dict(zip("0123456789", ["n", "l", "", "n", "", "", "n", "l", "l", ""], strict=True))
_LETTERS = {"l": "l", "r": "l", "m": "n", "n": "n"}
# English words that Korean reads as words, and whose last letter says it wrong: out is 아웃, apple 애플
_ENDINGS: tuple[tuple[str, str], ...] = (
    *(("out", "n"), ("put", "n"), ("ng", "n"), ("ck", "n"), ("me", "n"), ("ne", "n"), ("le", "l")),
    *(("er", ""), ("or", ""), ("ar", ""), ("ur", "")),
)


def final_sound(said: str) -> str:
    """The final consonant of what said ends in, read in Korean: "" for none, "l" for ㄹ, "n" for any other.

    >>> [final_sound(s) for s in ("노드", "값", "겉", "길", "x", "2.2", "1", "10", "out", "apple", "[1, 3]")]
    ['', 'n', 'n', 'l', '', '', 'l', 'n', 'n', 'l', 'n']
    """
    said = re.sub(r"(?<=[가-힣])\([^()]*\)$", "", said)  # brackets behind a Korean word are not read
    letters = re.sub(r"[\W_]+$", "", said)
    if not letters:
        return ""
    last = letters[-1]
    if "가" <= last <= "힣":
        final = (ord(last) - ord("가")) % 28
        return "" if final == 0 else "l" if final == 8 else "n"
    if last in _DIGITS:
        return _DIGITS[last]
    word = re.search(r"[A-Za-z]*$", letters)
    if word and len(word[0]) > 2:
        for ending, sound in _ENDINGS:
            if word[0].lower().endswith(ending):
                return sound
    return _LETTERS.get(last.lower(), "")


def particle(said: str, written: str) -> str:
    """The form of a particle after what has been said.

    >>> [f"{s}{particle(s, '은(는)')}" for s in ("노드", "값", "x", "3")]
    ['노드는', '값은', 'x는', '3은']
    >>> [f"{s}{particle(s, '(으)로')}" for s in ("노드", "값", "길", "1")]
    ['노드로', '값으로', '길로', '1로']
    """
    after_consonant, after_vowel = _FORMS[written]
    sound = final_sound(said)
    return after_vowel if not sound or (sound == "l" and written == "(으)로") else after_consonant
