"""Kills at any time and at every step, and readers beside a writer: the index is whole, and a re-run completes it.

The processes that are killed are real ones; they run this file.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import FakeEncoder, embed, numbered
from xsearch import ingest
from xsearch.encoder.protocol import unit_vectors
from xsearch.errors import XsearchError
from xsearch.index import Index
from xsearch.records import Document
from xsearch.store import files, writer
from xsearch.store.catalog import CATALOG_FILE, Catalog
from xsearch.store.vectors import VECTORS_FOLDER
from xsearch.text.passages import with_title

HERE = Path(__file__).resolve().parents[1]
DOCUMENTS = numbered(60)
# Of each of these there is an older version in the index before the run that is killed.
OLD = [
    Document(item.doc_id, f"old {item.text}", item.title, item.lang, metadata={"old": True}) for item in DOCUMENTS[:20]
]
GONE = Document("gone", "not in the source any more", lang="en")
SMALL_STEPS = {"LOOK_DOCUMENTS": 4, "ENCODE_PASSAGES": 6, "COMMIT_PASSAGES": 12}
# Where a process ends itself, without a word, as by a power cut: before or after the call of that number.
STEPS = (
    "before the vectors",
    "after the temporary file",
    "after the rename",
    "after the vectors",
    "after the deletion",
    "before the commit",
    "after the commit",
)


def prepare(path: Path) -> None:
    """The index as it is before the run that is killed."""
    with Index.create(path, encoder=FakeEncoder()) as index, index.run(["here"]) as run:
        run.add([*OLD, GONE], origin="here")


def run_over(path: Path, *, delay_s: float = 0.0) -> None:
    """The run that is killed, and the run after it."""
    with Index.open(path, encoder=FakeEncoder(delay_s=delay_s)) as index, index.run(["here"]) as run:
        run.add(DOCUMENTS, origin="here")
        run.prune()


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, many commits; in this process as in the others."""
    for name, value in SMALL_STEPS.items():
        monkeypatch.setattr(ingest, name, value)


def content(path: Path) -> list[tuple[object, ...]]:
    """All that an index holds and finds, but for the numbers of passages."""
    with Index.open(path, encoder=FakeEncoder()) as index:
        held: list[tuple[object, ...]] = [(*item.to_dict().items(),) for item in index]
        hits = index.search("word7 part2", k=10_000)
        held += [(hit.score, hit.doc_id, hit.start, hit.end, hit.text, hit.lang) for hit in hits]
    return sorted(held, key=repr)


def check_whole(path: Path) -> int:
    """Every document is there in its old version or its new one, with all of its passages and their own vectors."""
    versions = {(item.doc_id, item.text): item for item in (*DOCUMENTS, *OLD, GONE)}
    with Index.open(path, encoder=FakeEncoder()) as index:
        hits = index.search("word7 part2", k=10_000)
        assert index.verify() == len(hits) == index.info().passages
        worded = index.search("part0", k=10_000, mode="lexical")
        assert {hit.passage_id for hit in worded} == {hit.passage_id for hit in hits if "part0 " in hit.text}
        stored = list(index)
        assert {item.doc_id for item in (*OLD, GONE)} - {item.doc_id for item in stored} <= {"gone"}
        texts = {item.doc_id: item.text for item in stored}
        titles = {item.doc_id: versions[item.doc_id, item.text].title for item in stored}
        assert {hit.doc_id for hit in hits} == texts.keys()
        for doc_id, text in texts.items():
            pieces = sorted((hit for hit in hits if hit.doc_id == doc_id), key=lambda hit: hit.start)
            assert " ".join(hit.text for hit in pieces) == text
        vectors = unit_vectors(embed([with_title(titles[hit.doc_id], hit.text) for hit in hits]))
        expected = vectors.astype(np.float16).astype(np.float32) @ embed(["word7 part2"])[0]
        np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-6)
        return len(stored)


def check_swept(path: Path) -> None:
    """The vector files are those of the catalogue, and nothing is left under a temporary name."""
    with Index.open(path, encoder=FakeEncoder()) as index:
        segments = index.info().segments
    assert len(list((path / VECTORS_FOLDER).iterdir())) == segments
    assert not list(path.rglob("*.tmp*"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    """What a run that nobody kills makes of it."""
    path = tmp_path_factory.mktemp("undisturbed") / "index"
    prepare(path)
    run_over(path)
    check_swept(path)
    return content(path)


def start(path: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.test_faults", str(path), *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE)


def run(path: Path, *arguments: object) -> int:
    process = start(path, *arguments)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 77), errors
    return process.returncode


def test_killed_at_random_times(tmp_path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    """Pitfalls 1 and 3: after each of twelve kills the index is whole and has not lost what was there; the run after
    them completes it to what an undisturbed run makes."""
    rng = random.Random(7)
    killed = finished = most = 0
    while killed < 12:
        path = tmp_path / f"index-{finished}"
        if not path.exists():
            prepare(path)
            most = 0
        process = start(path, "run", 0.03)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(rng.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:  # it was done before: another one
            finished += 1
            continue
        assert process.returncode == -signal.SIGKILL
        killed += 1
        found = check_whole(path)
        assert found >= most  # nothing that was committed is lost
        most = found
    run_over(path)
    check_swept(path)
    assert content(path) == undisturbed


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(tmp_path: Path, undisturbed: list[tuple[object, ...]], step: str, number: int) -> None:
    """Pitfalls 1 and 3: the old state or the new one at each step of a write, in the first commit and in the third."""
    path = tmp_path / "index"
    prepare(path)
    assert run(path, "die", step, number) == 77
    check_whole(path)
    with Index.open(path, encoder=FakeEncoder()) as index:
        assert index.info().unfinished is not None
        new = sum(index.get(item.doc_id) == item for item in DOCUMENTS)
    commits = number if step == "after the commit" else number - 1
    assert (new > 0) == (commits > 0)
    with Index.open(path, encoder=FakeEncoder()) as index, index.run(["here"]) as again:
        assert again.interrupted is not None
        assert again.interrupted.documents == new
        check_swept(path)
        again.add(DOCUMENTS, origin="here")
        again.prune()
    check_swept(path)
    assert content(path) == undisturbed


@pytest.mark.parametrize("number", range(1, 6))
def test_killed_while_it_is_made(tmp_path: Path, number: int) -> None:
    """Pitfall 1: no half index; creating it again works."""
    path = tmp_path / "index"
    assert run(path, "create", number) == 77
    assert not (path / CATALOG_FILE).exists() or number == 5
    if number < 5:
        prepare(path)
    with Index.open(path, encoder=FakeEncoder()) as index:
        index.add(DOCUMENTS)
        assert index.verify() >= 60


def test_a_writer_and_four_readers(tmp_path: Path) -> None:
    """Pitfalls 7 and 8: in five processes, for some seconds; no error, and whole commits only."""
    path = tmp_path / "index"
    Index.create(path, encoder=FakeEncoder()).close()
    processes = [start(path, "read", 3.0) for _ in range(4)] + [start(path, "write", 3.0)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 5, [errors for _, errors in outputs]
    reads = [int(output) for output, _ in outputs]
    assert min(reads) > 3, reads
    with Index.open(path, encoder=FakeEncoder()) as index:
        assert index.verify() == len(index) == 10 * reads[-1]


# What the other processes do.


def die(*_arguments: object) -> None:
    os._exit(77)


def die_at(step: str, number: int) -> None:
    """Has this process end at a step of the write of that number."""
    writes = iter(range(1, 1000))
    current = [0]
    original = {
        "write": writer.Writer.write, "segment": writer.write_segment, "replace": Path.replace,
        "flush": files.flush_folder, "delete": writer.delete_documents, "note": writer._note_change,
    }  # fmt: skip

    def here(asked: str) -> None:
        if asked == step and current[0] == number:
            die()

    def write(self, batch, vectors):  # type: ignore[no-untyped-def]
        current[0] = next(writes)
        here("before the vectors")
        original["write"](self, batch, vectors)
        here("after the commit")

    def write_segment(*arguments):  # type: ignore[no-untyped-def]
        segment = original["segment"](*arguments)
        here("after the vectors")
        return segment

    def replace(self, target):  # type: ignore[no-untyped-def]
        here("after the temporary file")
        return original["replace"](self, target)

    def flush_folder(folder):  # type: ignore[no-untyped-def]
        here("after the rename")
        original["flush"](folder)

    def delete_documents(connection, keys):  # type: ignore[no-untyped-def]
        original["delete"](connection, keys)
        here("after the deletion")

    def note_change(connection):  # type: ignore[no-untyped-def]
        original["note"](connection)
        here("before the commit")

    writer.Writer.write = write  # type: ignore[method-assign]
    writer.write_segment = write_segment
    Path.replace = replace  # type: ignore[method-assign]
    files.flush_folder = flush_folder
    writer.delete_documents = delete_documents
    writer._note_change = note_change


def create_and_die(path: Path, number: int) -> None:
    """Ends at one of the steps of making an index."""
    if number == 1:
        files.json.dumps = die  # type: ignore[assignment]  # with an empty lock file
    if number == 2:
        Catalog.create = die  # type: ignore[method-assign]
    if number == 3:
        os.fsync = die  # type: ignore[assignment]
    if number == 4:
        Path.replace = die  # type: ignore[method-assign]
    if number == 5:
        files.flush_folder = die  # type: ignore[assignment]
    Index.create(path, encoder=FakeEncoder())


def read_for(path: Path, seconds: float) -> int:
    """Searches until the time is up; returns how many times."""
    done, last, end = 0, 0, time.monotonic() + seconds
    index = Index.open(path, encoder=FakeEncoder())
    while time.monotonic() < end:
        hits = index.search("same words", k=100_000)
        assert len(hits) % 10 == 0, len(hits)
        assert len(hits) >= last
        numbers = [hit.metadata["commit"] for hit in hits]
        assert all(numbers.count(number) == 10 for number in set(numbers))
        assert len(index) >= len(hits)
        last = len(hits)
        done += 1
        if done % 7 == 0:
            index.close()
            index = Index.open(path, encoder=FakeEncoder())
    return done


def write_for(path: Path, seconds: float) -> int:
    """Adds ten documents in one commit, over and over, and replaces some; returns how many times it added."""
    done, end = 0, time.monotonic() + seconds
    index = Index.open(path, encoder=FakeEncoder())
    while time.monotonic() < end:
        index.add(Document(f"{done}-{n}", "same words", lang="en", metadata={"commit": done}) for n in range(10))
        if done % 5 == 0:
            index.add(
                Document(f"{done}-{n}", "same words again", lang="en", metadata={"commit": done}) for n in range(10)
            )
        done += 1
        time.sleep(0.05)
    return done


def main() -> None:
    path, task, *rest = Path(sys.argv[1]), *sys.argv[2:]
    for name, value in SMALL_STEPS.items():
        setattr(ingest, name, value)
    if task == "run":
        print("begun", flush=True)  # noqa: T201
        run_over(path, delay_s=float(rest[0]) if rest else 0.0)
    elif task == "die":
        die_at(rest[0], int(rest[1]))
        run_over(path)
    elif task == "create":
        create_and_die(path, int(rest[0]))
    else:
        try:
            print({"read": read_for, "write": write_for}[task](path, float(rest[0])))  # noqa: T201
        except XsearchError as exc:
            sys.exit(str(exc))


if __name__ == "__main__":
    main()
