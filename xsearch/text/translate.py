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

# Of a number that says what a code point becomes: where its length stands, that of a single one, and the rest.
_LENGTH_AT = 24
_SINGLE = 2
_BELOW = 2**_LENGTH_AT - 1


class Translation:
    """What ``text.translate(table)`` does, to arrays of code points; safe for several threads.

    Args:
        table: what becomes of each code point, a string of at most 253; asked once for each that occurs.
    """

    def __init__(self, table: Mapping[int, str]) -> None:
        self._table = table
        # By code point: the length of what it becomes and one more, above _LENGTH_AT, or 0 where it is not known yet;
        # below, that one code point, or where those are that it becomes. Pages of memory that no text asks for are
        # never there.
        self._become = np.zeros(sys.maxunicode + 1, dtype=np.uint32)
        self._several: Points = np.empty(0, dtype=np.uint32)
        self._lock = threading.Lock()

    def __call__(self, points: Points) -> Points:
        """The code points that these become, in their order."""
        become = self._become.take(points)
        others = np.flatnonzero(become >> _LENGTH_AT != _SINGLE)
        written = become[others]
        if not written.all():
            self._learn(np.unique(points[others[written == 0]]))
            return self(points)
        become &= _BELOW
        if not len(others):
            return become
        lengths = (written >> _LENGTH_AT).astype(np.intp) - 1
        counts = np.ones(len(points), dtype=np.intp)
        counts[others] = lengths
        # Half the time of adding up all lengths.
        found = np.repeat(become, counts)
        starts = others + np.cumsum(lengths - 1) - (lengths - 1)
        for length in range(2, int(lengths.max()) + 1):
            which = np.flatnonzero(lengths == length)
            to, places = starts[which], become[others[which]]
            for place in range(length):
                found[to + place] = self._several[places + place]
        return found

    def _learn(self, points: Points) -> None:
        with self._lock:
            for point in points.tolist():
                written = self._table[point]
                below = ord(written) if len(written) == 1 else len(self._several)
                if len(written) > 1:
                    self._several = np.concatenate([self._several, points_of(written)])
                # Last, and at once, for another thread reads without the lock.
                self._become[point] = len(written) + 1 << _LENGTH_AT | below


def points_of(text: str) -> Points:
    """The code points of a text, lone surrogates too."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def text_of(points: Points) -> str:
    """The text of code points."""
    return points.astype("<u4", copy=False).tobytes().decode("utf-32-le", "surrogatepass")
