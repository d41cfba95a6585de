"""Peak memory of indexing a corpus with the built-in encoder, and of indexing ten times as many documents.

The documents are the demo corpus over and over, each copy with a line of its own, so that nothing is a duplicate.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from record import write_result

CORPUS = Path(__file__).parents[1] / "demo" / "corpus"
COPIES = 8


def main() -> None:
    """Runs the two sizes in processes of their own and writes their peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=COPIES, help="of the demo corpus, at 1x")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_index(arguments.child)))
        return
    numbers: dict[str, object] = {}
    peaks: list[float] = []
    for times in (1, 10):
        command = [sys.executable, __file__, "--child", str(arguments.copies * times)]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        numbers[f"{times}x"] = found = json.loads(run.stdout)
        peaks.append(found["peak_mib"])
    numbers["ratio"] = round(peaks[1] / peaks[0], 3)
    for name, value in numbers.items():
        print(f"{name:<6} {value}")
    print(write_result("memory", numbers, arguments.output))


def _index(copies: int) -> dict[str, float]:
    from xsearch import Document, Index
    from xsearch.corpus.source import read_source

    def documents() -> Iterator[Document]:
        for copy in range(copies):
            for document in read_source(str(CORPUS)):
                if isinstance(document, Document):
                    yield Document(
                        f"{copy}/{document.doc_id}", f"{document.text}\n\n{copy}", document.title, document.lang
                    )

    with tempfile.TemporaryDirectory() as folder, Index.create(Path(folder) / "index") as index:
        report = index.add(documents())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"documents": report.added, "passages": report.passages, "peak_mib": round(peak, 1)}


if __name__ == "__main__":
    main()
