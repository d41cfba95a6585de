"""Adding, replacing, deleting, compacting and searching in any order against a dictionary, for every FAISS kind."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.fakes import FakeEncoder, embed
from tests.model import scores
from tests.small_sizes import set_small_sizes
from xsearch.index import Index
from xsearch.records import Document
from xsearch.store import ann, merge

EXACT = "Flat"
KINDS = (EXACT, "IVF4,PQ4x4fs", "IVF4,PQ8x4fs", "IVF4,RaBitQfs", "IVF4,SQ8", "HNSW16,SQ8", "")
LANGS = ("en", "de", "zh-Hant")
NUMBERS = st.lists(st.integers(0, 80), min_size=1, max_size=12, unique=True)


def document(number: int, version: int) -> Document:
    """The version of a document; several numbers have one text, so that there are ties."""
    text = f"word{number % 50} version{version} part{number % 7}"
    return Document(f"d{number}", text, lang=LANGS[number % 3], metadata={"number": number, "version": version})


class Machine(RuleBasedStateMachine):
    """An index of one kind, and what must be in it."""

    kind = EXACT
    folder = Path()

    @initialize(start=st.integers(0, 40), count=st.integers(0, 50))
    def create(self, start: int, count: int) -> None:
        self.path = Path(tempfile.mkdtemp(dir=self.folder)) / "index"
        self.held: dict[str, Document] = {}
        self.version = 0
        self.index = Index.create(self.path, encoder=FakeEncoder())
        self.index.set_search(recall=0.9, factory=self.kind)
        self.add(list(range(start, start + count)))

    @rule(numbers=NUMBERS)
    def add(self, numbers: list[int]) -> None:
        """Adds documents, or replaces them by another version."""
        self.version += 1
        new = {f"d{number}": document(number, self.version) for number in numbers}
        report = self.index.add(new.values())
        assert (report.added, report.updated) == (
            len(new.keys() - self.held.keys()),
            len(new.keys() & self.held.keys()),
        )
        self.held |= new

    @rule(start=st.integers(0, 60), count=st.integers(15, 40))
    def add_many(self, start: int, count: int) -> None:
        self.add(list(range(start, start + count)))

    @rule(numbers=NUMBERS)
    def delete(self, numbers: list[int]) -> None:
        names = {f"d{number}" for number in numbers}
        assert self.index.delete(names) == len(names & self.held.keys())
        for name in names & self.held.keys():
            del self.held[name]

    @rule()
    def compact(self) -> None:
        self.index.compact()

    @rule()
    def reopen(self) -> None:
        self.index.close()
        self.index = Index.open(self.path, encoder=FakeEncoder())

    @rule(number=st.integers(0, 60), k=st.integers(1, 30))
    def search(self, number: int, k: int) -> None:
        self.check(f"word{number} part3", k)

    @rule(number=st.integers(0, 60), k=st.integers(1, 30), lang=st.sampled_from(["en", "de", "zh", "fr"]))
    def search_a_language(self, number: int, k: int, lang: str) -> None:
        self.check(f"word{number}", k, lang=lang)

    @rule(number=st.integers(0, 60), k=st.integers(1, 30), least=st.integers(0, 90))
    def search_under_a_filter(self, number: int, k: int, least: int) -> None:
        self.check(f"word{number}", k, least=least)

    def check(self, query: str, k: int, *, lang: str = "", least: int = 0) -> None:
        """That a search finds what it must, by the stored documents alone."""
        asked = {"langs": [lang] if lang else [], "where": f"number >= {least}" if least else ""}
        hits = self.index.search(query, k=k, mode="dense", **asked)  # type: ignore[arg-type]
        fitting = {
            name: item
            for name, item in self.held.items()
            if (not lang or item.lang.split("-")[0] == lang) and int(str(item.metadata["number"])) >= least
        }
        found = [hit.doc_id for hit in hits]
        assert len(set(found)) == len(found) == min(k, len(fitting))
        for hit in hits:
            item = fitting[hit.doc_id]
            assert (hit.text, hit.lang, hit.metadata) == (item.text, item.lang, item.metadata)
        vectors = embed([item.text for item in fitting.values()]).astype(np.float16).astype(np.float32)
        true = dict(zip(fitting, scores(vectors, query).tolist(), strict=True)) if fitting else {}
        np.testing.assert_allclose([hit.score for hit in hits], [true[name] for name in found], atol=1e-3)
        assert [(hit.score, hit.passage_id) for hit in hits] == sorted(
            ((hit.score, hit.passage_id) for hit in hits), reverse=True
        )
        if self.kind == EXACT:
            np.testing.assert_allclose([hit.score for hit in hits], sorted(true.values(), reverse=True)[:k], atol=1e-6)

    @invariant()
    def holds_what_it_must(self) -> None:
        assert len(self.index) == len(self.held)
        info = self.index.info()
        assert all(file.factory == self.kind for file in info.ann if self.kind)
        Machine.files_seen += len(info.ann)

    files_seen = 0

    def teardown(self) -> None:
        if hasattr(self, "index"):
            assert {item.doc_id: item for item in self.index} == self.held
            assert self.index.verify() == len(self.held)
            self.index.close()
            shutil.rmtree(self.path.parent)


def run(monkeypatch: pytest.MonkeyPatch, memory: Path, kind: str, asked: settings) -> None:
    set_small_sizes(monkeypatch)
    monkeypatch.setattr(merge, "EXACT_ROWS", 24)
    monkeypatch.setattr(ann, "EXACT_AMONG", 4)
    monkeypatch.setattr(Machine, "kind", kind)
    monkeypatch.setattr(Machine, "folder", memory)
    monkeypatch.setattr(Machine, "files_seen", 0)
    run_state_machine_as_test(Machine, settings=asked)
    assert (Machine.files_seen > 0) == (kind != EXACT)


UNHURRIED = settings(
    deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True, derandomize=True
)


@pytest.mark.parametrize("kind", KINDS)
def test_against_a_dictionary(monkeypatch: pytest.MonkeyPatch, memory: Path, kind: str) -> None:
    run(monkeypatch, memory, kind, settings(UNHURRIED, max_examples=7, stateful_step_count=16))


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_against_a_dictionary_at_length(monkeypatch: pytest.MonkeyPatch, memory: Path, kind: str) -> None:
    run(monkeypatch, memory, kind, settings(UNHURRIED, max_examples=8, stateful_step_count=30, derandomize=False))
