"""Kills at any time and at every step, and readers beside a writer: the index is whole, and a re-run completes it.

The processes that are killed are real ones; they run this file.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import FakeEncoder, embed, numbered
from tests.small_sizes import set_small_sizes
from xsearch import ingest
from xsearch.encoder.protocol import unit_vectors
from xsearch.errors import IndexLockedError, XsearchError
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
        hits = index.search("word7 part2", k=10_000, mode="dense")
        held += [(hit.score, hit.doc_id, hit.start, hit.end, hit.text, hit.lang) for hit in hits]
    return sorted(held, key=repr)


def check_whole(path: Path) -> int:
    """Every document is there in its old version or its new one, with all of its passages and their own vectors."""
    versions = {(item.doc_id, item.text): item for item in (*DOCUMENTS, *OLD, GONE)}
    with Index.open(path, encoder=FakeEncoder()) as index:
        hits = index.search("word7 part2", k=10_000, mode="dense")
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


def test_two_writers_and_eight_readers(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_small_sizes(monkeypatch)
    write_and_read(memory / "index", seconds=6.0)


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_two_writers_and_eight_readers_for_a_minute(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_small_sizes(monkeypatch)
    write_and_read(memory / "index", seconds=60.0)


def write_and_read(path: Path, *, seconds: float) -> None:
    """Pitfalls 7 and 8: two writers and eight readers in ten processes, while segments are merged, FAISS files built
    and the index compacted; no error, whole commits only, and the writer that comes second is told who writes."""
    with Index.create(path, encoder=FakeEncoder()) as index:
        for number in range(8):
            index.add(ten("before", number, "only"))
        assert index.info().ann
    processes = [start(path, "read", seconds) for _ in range(8)] + [start(path, "write", seconds) for _ in range(2)]
    outputs = [process.communicate(timeout=seconds + 120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 10, [errors for _, errors in outputs]
    reports = [json.loads(output) for output, _ in outputs]
    assert min(report["reads"] for report in reports[:8]) > 1, reports
    assert any(report["files"] for report in reports[:8]), reports
    writers = reports[8:]
    assert min(report["commits"] for report in writers) > 2
    assert sum(report["refused"] for report in writers) > 0
    assert max(report["compacted"] for report in writers) > 0
    with Index.open(path, encoder=FakeEncoder()) as index:
        held = 8 + sum(report["commits"] - report["deleted"] for report in writers)
        assert index.verify() == len(index) == 10 * held
        index.compact()
    check_swept(path)


def test_a_dead_writers_lock_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "index"
    prepare(path)
    process = start(path, "hold")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with Index.open(path, encoder=FakeEncoder()) as index:
        with pytest.raises(IndexLockedError, match=rf"by process {process.pid} on \S+ since 20\d\d-\d\d-\d\dT"):
            index.delete(["gone"])
        process.kill()
        process.communicate()
        assert index.delete(["gone"]) == 1
        index.verify()


# What the other processes do.


def die(*_arguments: object) -> None:
    os._exit(77)


def die_at(step: str, number: int) -> None:
    """Has this process end at a step of the write of that number."""
    writes = iter(range(1, 1000))
    current = [0]
    original = {
        "write": writer.Writer.write, "segment": writer.write_segment, "replace": Path.replace,
        "flush": files.flush_folder, "delete": writer.delete_documents, "note": writer.note_change,
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
    writer.note_change = note_change


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


def read_for(path: Path, seconds: float) -> dict[str, int]:
    """Searches until the time is up; every commit is seen whole or not at all, and every score is the true one."""
    done = files_seen = 0
    end = time.monotonic() + seconds
    index = Index.open(path, encoder=FakeEncoder())
    while time.monotonic() < end or done < 3:
        query = f"commit{done}"
        hits = index.search(query, k=100_000, mode="dense")
        numbers = Counter(hit.metadata["commit"] for hit in hits)
        assert set(numbers.values()) <= {10}, numbers
        expected = embed([hit.text for hit in hits]).astype(np.float16).astype(np.float32) @ embed([query])[0]
        np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-6)
        if len(hits) > 200:
            assert len(index.search(query, k=5)) == 5
            assert {hit.lang for hit in index.search(query, k=5, langs=["de"])} == {"de"}
        files_seen += len(index.info().ann)
        done += 1
        if done % 7 == 0:
            index.close()
            index = Index.open(path, encoder=FakeEncoder())
    return {"reads": done, "files": files_seen}


def ten(writer: object, number: int, version: str) -> list[Document]:
    """What one commit adds or replaces."""
    commit = f"{writer}-{number}"
    return [
        Document(f"{commit}-{n}", f"commit{number} {version}", lang=("en", "de")[n % 2], metadata={"commit": commit})
        for n in range(10)
    ]


def write_for(path: Path, seconds: float) -> dict[str, int]:
    """Adds, replaces and deletes ten documents in one commit each, over and over, and compacts."""
    counts = {"commits": 0, "deleted": 0, "refused": 0, "compacted": 0}
    end = time.monotonic() + seconds
    index = Index.open(path, encoder=FakeEncoder(delay_s=0.01))

    def until_free(write: Callable[[], object]) -> None:
        while True:
            try:
                write()
                return
            except IndexLockedError as exc:
                # Whoever holds it may have gone before its name was read.
                assert re.search(r"by (process \d+ on \S+ since 20\d\d-|another process)", str(exc)), exc
                counts["refused"] += 1
                time.sleep(random.uniform(0.0, 0.02))

    while time.monotonic() < end or counts["compacted"] < 1:
        number = counts["commits"]
        until_free(partial(index.add, ten(os.getpid(), number, "first")))
        counts["commits"] += 1
        if number % 5 == 0:
            until_free(partial(index.add, ten(os.getpid(), number, "second")))
        if number % 4 == 3:
            until_free(partial(index.delete, [item.doc_id for item in ten(os.getpid(), number - 2, "")]))
            counts["deleted"] += 1
        if number % 8 == 4:
            until_free(index.compact)
            counts["compacted"] += 1
        time.sleep(0.02)
    return counts


def hold(path: Path) -> None:
    """Writes until it is killed."""
    with Index.open(path, encoder=FakeEncoder()) as index, index.run():
        print("held", flush=True)  # noqa: T201
        time.sleep(60)


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
    elif task == "hold":
        hold(path)
    else:
        set_small_sizes()
        try:
            print(json.dumps({"read": read_for, "write": write_for}[task](path, float(rest[0]))))  # noqa: T201
        except XsearchError as exc:
            sys.exit(str(exc))


if __name__ == "__main__":
    main()
