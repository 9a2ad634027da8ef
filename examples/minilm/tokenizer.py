"""WordPiece tokenizer for uncased BERT models, from a vocabulary file."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LONGEST_WORD = 100  # longer words become [UNK], as in the model's tokenizer.json


class WordPiece:
    """Splits text into the longest pieces that the vocabulary knows."""

    def __init__(self, vocabulary: Path) -> None:
        lines = vocabulary.read_text(encoding="utf-8").splitlines()
        self.ids = {piece: index for index, piece in enumerate(lines)}

    def encode(self, sentences: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask, int64 [sentences, length], cut or padded to ``length``."""
        ids = np.full((len(sentences), length), self.ids["[PAD]"], np.int64)
        mask = np.zeros_like(ids)
        for row, sentence in enumerate(sentences):
            pieces = [p for word in words(sentence) for p in self.pieces(word)][: length - 2]
            line = [self.ids[p] for p in ("[CLS]", *pieces, "[SEP]")]
            ids[row, : len(line)] = line
            mask[row, : len(line)] = 1
        return ids, mask

    def pieces(self, word: str) -> list[str]:
        """The greedy split of one word, or [UNK]."""
        found: list[str] = []
        start = 0
        while start < len(word) <= LONGEST_WORD:
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if prefix + word[start:e] in self.ids), None)
            if end is None:
                break
            found.append(prefix + word[start:end])
            start = end
        return found if start == len(word) else ["[UNK]"]


def words(text: str) -> list[str]:
    """Lower-case words without accents; punctuation and CJK characters stand alone."""
    clean = []
    for char in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(char)
        if char.isspace():
            clean.append(" ")
        elif category == "Mn" or category[0] == "C" or char == "\ufffd":
            continue
        elif _is_punctuation(char, category) or _is_cjk(char):
            clean.append(f" {char} ")
        else:
            clean.append(char)
    return "".join(clean).split()


def _is_punctuation(char: str, category: str) -> bool:
    ascii_symbol = char.isascii() and char.isprintable() and not char.isalnum() and char != " "
    return ascii_symbol or category.startswith("P")


def _is_cjk(char: str) -> bool:
    blocks = (
        (0x4E00, 0x9FFF),
        (0x3400, 0x4DBF),
        (0x20000, 0x2A6DF),
        (0x2A700, 0x2B81F),
        (0x2B820, 0x2CEAF),
        (0xF900, 0xFAFF),
        (0x2F800, 0x2FA1F),
    )
    return any(first <= ord(char) <= last for first, last in blocks)
