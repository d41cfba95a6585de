"""The benchmark of the store: how its vectors are made, what counts as found, how an engine is chosen and reported."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
DIM = 16
TEXTS = 300
LANGS = ("en", "de", "sw")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("texts", "vectors", "engine", "process", "stages", "report", "worker")
    yield {name: importlib.import_module(f"store_{name}") for name in names}


@pytest.fixture
def work(modules: dict[str, ModuleType], tmp_path: Path) -> Path:
    """A folder with made-up texts and vectors around ten points."""
    texts = modules["texts"]
    chance = np.random.default_rng(5)
    points = chance.standard_normal((10, DIM))

    def vectors(count: int) -> np.ndarray:
        made = points[chance.integers(10, size=count)] + 0.3 * chance.standard_normal((count, DIM))
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16)

    np.save(tmp_path / "base.npy", vectors(TEXTS))
    np.save(tmp_path / "queries.npy", vectors(40))
    known = [texts.Text(f"Text {n} about {LANGS[n % 3]}.", LANGS[n % 3], "sentence") for n in range(TEXTS)]
    texts.save_texts(tmp_path / "texts.jsonl", known)
    texts.save_texts(tmp_path / "queries.jsonl", [texts.Text(f"Query {n}?", "en", "question") for n in range(40)])
    return tmp_path


def test_texts_and_queries_are_apart(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard", reason="needs the extra 'train'")
    pack = zstandard.ZstdCompressor().compress
    for folder in ("qa", "parallel"):
        (tmp_path / folder).mkdir()
    record = {"context": "The bridge was built in 1890.", "question": "When was the bridge built?"}
    other = {**record, "question": "What was built in 1890?"}
    lines = "".join(json.dumps(some) + "\n" for some in (record, other))
    (tmp_path / "qa" / "bridges.en.jsonl.zst").write_bytes(pack(lines.encode()))
    pairs = [(f"{n} " + "word " * 20, f"{n} " + "Wort " * 20) for n in range(1000)] + [("short", "kurz")]
    rows = "".join(f"{english}\t{german}\n" for english, german in pairs)
    (tmp_path / "parallel" / "lines.en-de.tsv.zst").write_bytes(pack(rows.encode()))
    (tmp_path / "parallel" / "cldr-terms.en-de.tsv.zst").write_bytes(pack(rows.replace("Wort", "Liste").encode()))
    passages, queries = modules["texts"].collect(tmp_path)
    assert modules["texts"].collect(tmp_path) == (passages, queries)
    assert [query.kind for query in queries] == ["question", "sentence", "question", "sentence"]
    assert not {query.text for query in queries} & {passage.text for passage in passages}
    assert [passage.text for passage in passages if passage.kind == "context"] == [record["context"]]
    assert {(p.lang, p.kind) for p in passages} == {("en", "context"), ("en", "sentence"), ("de", "sentence")}
    assert sum(passage.lang == "de" for passage in passages) == 400
    assert not any("Liste" in passage.text or passage.text == "kurz" for passage in passages)


def test_a_row_is_a_real_vector_moved_by_another_ones_residual(modules: dict[str, ModuleType]) -> None:
    base = modules["vectors"].Base(
        vectors=np.array([[1, 0], [0, 1]], dtype=np.float32),
        residuals=np.array([[0, 0], [0, 0.75]], dtype=np.float32),
        langs=("en", "de"),
    )
    moved = modules["vectors"].perturbed(base, np.array([0, 1]), np.array([1, 0]), spread=1.0)
    np.testing.assert_allclose(moved, [[0.8, 0.6], [0, 1]], atol=1e-6)


def test_a_smaller_set_is_the_beginning_of_a_larger_one(
    modules: dict[str, ModuleType], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules["vectors"], "BLOCK_ROWS", 256)
    for rows in (300, 1000):
        modules["vectors"].enlarge(work, rows)
    small, large = (modules["engine"].load_rows(work, rows) for rows in (300, 1000))
    assert (small.vectors.shape, large.vectors.shape, large.vectors.dtype) == ((300, DIM), (1000, DIM), np.float16)
    for name in ("vectors", "first", "second", "year", "lang"):
        np.testing.assert_array_equal(getattr(small, name), getattr(large, name)[:300])
    np.testing.assert_allclose(np.linalg.norm(large.vectors.astype(np.float32), axis=1), 1, atol=2e-3)
    assert not np.array_equal(large.first[:256], large.first[256:512])
    assert large.langs(0, 1000) == [LANGS[n % 3] for n in large.first.tolist()]
    texts = list(modules["vectors"].passages(work, 300))
    assert len(set(texts)) == 300
    assert all(300 <= len(text) <= 500 and text.endswith(f" ({n})") for n, text in enumerate(texts))
    first, second = small.first[7], small.second[7]
    assert texts[7].startswith(f"Text {first} about {LANGS[first % 3]}. Text {second} about")


def test_true_neighbours_with_and_without_filters(
    modules: dict[str, ModuleType], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = modules["vectors"]
    monkeypatch.setattr(vectors, "BLOCK_ROWS", 256)
    vectors.enlarge(work, 1000)
    truth = np.load(vectors.true_neighbours(work, 1000))
    rows = modules["engine"].load_rows(work, 1000)
    scores = np.load(work / "queries.npy").astype(np.float32) @ rows.vectors.astype(np.float32).T
    assert set(truth.files) == {"all", "year10", "year1", "lang"}
    for some in (None, *vectors.FILTERS):
        mask = np.ones(1000, dtype=bool) if some is None else some.mask(rows)
        found = truth["all" if some is None else some.name]
        places = min(10, int(mask.sum()))
        assert mask[found[:, :places]].all() and (found[:, places:] == -1).all()
        # The rows may differ where two score the same.
        best = -np.sort(-np.where(mask, scores, -9), axis=1)[:, :places]
        np.testing.assert_allclose(np.take_along_axis(scores, found[:, :places], axis=1), best, atol=1e-6)
    assert 2 <= int((rows.year == 2000).sum()) <= 30


def test_the_enlarged_set_is_compared_with_the_real_one(
    modules: dict[str, ModuleType], work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = modules["vectors"].compare(work, 0.0)
    # Nothing is moved: rows are the real ones, some of them twice.
    assert found["rows"] == TEXTS
    assert found["enlarged"]["cosine_to_nearest_row"]["p95"] == 1.0
    assert found["real"]["cosine_to_nearest_row"]["p95"] < 1.0
    assert 3 < found["real"]["dimension_mle"] < DIM
    assert found["real"]["ivf256_nprobe8_recall_at_10"] < 1.0


def test_least_effort_is_the_first_that_reaches_the_recall(modules: dict[str, ModuleType]) -> None:
    efforts = [{"ef": ef} for ef in range(1, 65)]
    asked: list[int] = []

    def recall(effort: dict[str, int]) -> float:
        asked.append(effort["ef"])
        return effort["ef"] / 40

    assert modules["stages"].least_effort(efforts, recall, 0.95) == ({"ef": 38}, 0.95)
    assert len(asked) == 6
    assert modules["stages"].least_effort(efforts[:20], recall, 0.95) == ({"ef": 20}, 0.5)
    assert modules["stages"].least_effort(efforts[:1], recall, 0.95) == ({"ef": 1}, 0.025)


def test_the_cheapest_build_is_taken_unless_its_searches_are_slow(modules: dict[str, ModuleType]) -> None:
    def trial(seconds: float, recall: float, queries: float) -> dict[str, float]:
        return {"build_s": seconds, "recall": recall, "queries_per_s": queries}

    slow, good, thorough = trial(1, 0.96, 500), trial(2, 0.95, 800), trial(9, 0.99, 1000)
    cheapest = modules["stages"].cheapest
    assert cheapest([slow, good, thorough, {"failed": "no memory"}], 0.95) == good
    assert cheapest([slow, thorough], 0.95) == thorough
    assert cheapest([trial(1, 0.94, 900)], 0.95) is None


def test_percentile(modules: dict[str, ModuleType]) -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [modules["stages"].percentile(values, share) for share in (50, 99, 100)] == [50.0, 99.0, 100.0]
    assert modules["stages"].percentile([7.0], 99) == 7.0


class Half:
    """An engine that finds the even rows of the truth and nothing else."""

    def __init__(self, truth: np.ndarray, queries: np.ndarray) -> None:
        self._truth = {query.tobytes(): row for query, row in zip(queries, truth, strict=True)}

    def search(self, queries: np.ndarray, k: int, effort: dict[str, Any], only: object) -> np.ndarray:
        found = np.stack([self._truth[query.tobytes()] for query in queries])
        return np.where(found % 2 == 0, found, -1)


def test_recall_is_of_one_half_of_the_queries(
    modules: dict[str, ModuleType], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules["vectors"].enlarge(work, 500)
    truth = np.load(modules["vectors"].true_neighbours(work, 500))["all"]
    queries = np.load(work / "queries.npy").astype(np.float32)
    monkeypatch.setattr(modules["worker"], "load_engine", lambda name, threads: Half(truth, queries))
    worker = modules["worker"].Worker("half", work, 500, 1)
    halves = [np.arange(40)[np.arange(40) // 2 % 2 == part] for part in (0, 1)]
    assert halves[0].tolist()[:4] == [0, 1, 4, 5]
    for part in (0, 1):
        even = int((truth[halves[part]] % 2 == 0).sum())
        assert worker.recall({}, None, part) == {"recall": even / 200, "missing": 200 - even}
    assert worker.batch({}, None, 1e-9)["queries"] == 20
    assert len(worker.single({}, None, 60.0)) == 20


def test_an_engine_that_takes_too_long_or_ends_is_named(
    modules: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = modules["process"]
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, sys, time\n"
        "for line in sys.stdin:\n"
        "    do = json.loads(line)['do']\n"
        "    if do == 'sleep': time.sleep(60)\n"
        "    if do == 'fall': raise SystemExit('out of memory')\n"
        "    print(json.dumps([do, sys.argv[1:]]), flush=True)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(process, "WORKER", script)
    setup = process.Setup(tmp_path, 100, threads=1, limit_s=20.0, peers_python=sys.executable)
    with process.EngineProcess("hnswlib", setup) as engine:
        assert engine.ask("hello") == ["hello", ["hnswlib", str(tmp_path), "100", "1"]]
        with pytest.raises(process.EngineFailedError, match="hnswlib ended while it should fall: out of memory"):
            engine.ask("fall")
    with (
        process.EngineProcess("hnswlib", process.Setup(tmp_path, 100, limit_s=0.2)) as engine,
        pytest.raises(process.EngineFailedError, match="did not sleep within 0 s"),
    ):
        engine.ask("sleep")


def test_a_search_at_which_an_engine_fails_is_noted_and_the_others_are_tuned(
    modules: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    if asked['do'] == 'efforts': answer = [{'ef': ef} for ef in range(10)]\n"
        "    elif asked['do'] == 'recall':\n"
        "        if asked['only'] and asked['only']['name'] == 'year1': raise SystemExit('no memory')\n"
        "        answer = {'recall': asked['effort']['ef'] / (6 if asked['only'] is None else 60)}\n"
        "    else: answer = {}\n"
        "    print(json.dumps(answer), flush=True)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(modules["process"], "WORKER", script)
    setup = modules["process"].Setup(tmp_path, 100, limit_s=60.0, peers_python=sys.executable)
    notes = modules["stages"].Notebook(setup.folder, "hnswlib")
    notes.note("build", {"seconds": 1.0})
    modules["stages"].tune(setup, ["hnswlib", "usearch"])
    tuned = modules["stages"].Notebook(setup.folder, "hnswlib").numbers["tune"]
    assert tuned["all"] == {"effort": {"ef": 6}, "recall": 1.0, "reached": True}
    assert tuned["year10"] == {"effort": {"ef": 9}, "recall": 0.15, "reached": False} == tuned["lang"]
    assert tuned["year1"] == {"failed": "hnswlib ended while it should recall: no memory"}
    assert not modules["stages"].Notebook(setup.folder, "usearch").has("tune")


def test_a_stage_that_was_run_is_kept(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    notes = modules["stages"].Notebook(tmp_path / "rows-5", "hnswlib")
    notes.note("choose", {"settings": {"M": 8}})
    notes.note("build", {"failed": "no memory"})
    again = modules["stages"].Notebook(tmp_path / "rows-5", "hnswlib")
    assert (again.has("build"), again.ready("build"), again.ready("choose"), again.has("tune")) == (
        True, False, True, False,
    )  # fmt: skip
    again.forget(["build"])
    assert modules["stages"].Notebook(tmp_path / "rows-5", "hnswlib").numbers == {"choose": {"settings": {"M": 8}}}


def measured(queries_per_s: float, p50: float, build: float, *, reached: bool = True) -> dict[str, Any]:
    search = {"queries_per_s": queries_per_s, "p50_ms": p50, "p99_ms": 2 * p50, "recall": 0.96}
    tuned = {"effort": {}, "recall": 0.96, "reached": True}
    return {
        "build": {"seconds": build, "disk_bytes": 100_000},
        "tune": {"all": tuned, "lang": {**tuned, "reached": reached}},
        "query": {
            "open": {"seconds": 0.5, "after": {"resident": 500_000}},
            "searches": {"all": search, "lang": search},
        },
    }


def test_ratios_count_only_what_reached_the_recall(modules: dict[str, ModuleType]) -> None:
    engines = {"xsearch": measured(2000, 0.5, 10), "chroma": measured(500, 2.0, 40, reached=False)}
    assert modules["report"].ratios(engines) == {
        "chroma": {
            "ratios": {"build": 4.0, "all": 4.0, "all p50": 4.0},
            "not_reached": ["year10", "year1", "lang"],
        }
    }


def test_growth_is_reported_and_drawn(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    sizes = {"10000": {"xsearch": measured(2000, 1.5, 20)}, "1000": {"xsearch": measured(9000, 0.5, 1)}, "5": {}}
    points = modules["report"].growth(sizes)
    assert points[0] == {
        "rows": 1000,
        "build_s": 1,
        "disk_bytes_a_passage": 100.0,
        "resident_bytes_a_passage": 500.0,
        "open_s": 0.5,
        "p50_ms": 0.5,
        "p99_ms": 1.0,
        "recall": 0.96,
    }
    assert [point["rows"] for point in points] == [1000, 10000]
    drawn = tmp_path / "store.svg"
    modules["report"].plot(points, drawn)
    content = drawn.read_text(encoding="utf-8")
    assert all(title in content for title in ("build, s", "on disk, bytes a passage", "recall@10"))
    assert len(content) < 100_000
    before = drawn.read_bytes()
    modules["report"].plot(points, drawn)
    assert drawn.read_bytes() == before


@pytest.mark.parametrize("factory", ["IVF8,SQ8", "IVF8,RaBitQfs", "IVF8,PQ8x4fs", "Flat", "HNSW8,Flat"])
def test_faiss_alone_is_re_scored_and_filtered(modules: dict[str, ModuleType], work: Path, factory: str) -> None:
    import faiss

    modules["vectors"].enlarge(work, 1000)
    rows = modules["engine"].load_rows(work, 1000)
    own = importlib.import_module("engines.own")
    made = faiss.index_factory(DIM, f"{factory},Refine(SQfp16)", faiss.METRIC_INNER_PRODUCT)
    made.train(rows.vectors.astype(np.float32))
    own.add_all(made, rows)
    engine = own.Faiss(1)
    engine.use(made, 500, rows)
    queries = np.load(work / "queries.npy").astype(np.float32)
    for some in (None, modules["vectors"].FILTERS[0], modules["vectors"].FILTERS[2]):
        ids = np.arange(1000) if some is None else np.flatnonzero(some.mask(rows))
        wanted = modules["vectors"].exact(rows.vectors, queries, 10, ids)
        found = engine.search(queries, 10, {"effort": 500}, some)
        # With so much effort all is found.
        assert np.isin(found, ids).all()
        assert np.mean([len(set(a) & set(b)) for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]) >= 9.9
    # Of questions between the clusters a single list, or a list of one candidate, does not hold all.
    between = np.random.default_rng(8).standard_normal((40, DIM)).astype(np.float32)
    hardly, wholly = (engine.search(between, 10, {"effort": effort}, None) for effort in (1, 500))
    assert (hardly == wholly).all() == (factory == "Flat")


def test_engines_take_turns(modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = importlib.import_module("store_whole")
    monkeypatch.setattr(whole, "PAIRED_ROUNDS", 3)
    asked: list[tuple[str, int, int]] = []

    class Listed:
        def __init__(self, name: str) -> None:
            self.name = name

        def search(self, queries: np.ndarray, k: int, effort: dict[str, int], only: None) -> None:
            asked.append((self.name, len(queries), effort["ef"]))

    engines = {name: (Listed(name), {"ef": number}) for number, name in enumerate("abc")}
    times = whole._alternating(engines, np.zeros((20, DIM), dtype=np.float32))
    assert asked[:4] == [("a", 20, 0), ("a", 1, 0), ("b", 20, 1), ("b", 1, 1)]
    assert [name for name, size, _ in asked if size == 1] == [*"abc", *"bca", *"cab"]
    assert {key: len(taken) for key, taken in times.items()} == {(n, k): 3 for n in "abc" for k in ("batch", "single")}


def test_xsearch_and_faiss_from_vectors_to_report(
    modules: dict[str, ModuleType], work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    chance = np.random.default_rng(6)
    for name, count in (("base.npy", TEXTS), ("queries.npy", 40)):
        made = chance.standard_normal((count, 384))
        np.save(work / name, (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16))
    store = importlib.import_module("store")
    for name in ("BATCH_S", "SINGLE_S", "TRIAL_S"):
        monkeypatch.setattr(modules["stages"], name, 0.01)
    output = work / "store.json"
    arguments = ["--work", str(work), "--rows", "400", "--engines", "xsearch,faiss", "--rounds", "1", "-o", str(output)]
    store.main(arguments)
    found = json.loads(output.read_text(encoding="utf-8"))
    assert found["vectors"]["filters"]["year10"] == "year >= 2015"
    engines = found["rows"]["400"]
    for name in ("xsearch", "faiss"):
        searches = engines[name]["query"]["searches"]
        # So few rows are searched exactly, and a filter leaves less than ten of them.
        assert {search: measured["recall"] for search, measured in searches.items()} == {
            "all": 1.0, "year10": 1.0, "year1": 1.0, "lang": 1.0,
        }  # fmt: skip
        assert all(search["queries_per_s"] > 0 and search["p99_ms"] >= search["p50_ms"] for search in searches.values())
    assert engines["xsearch"]["whole"]["hits"] == 10
    assert engines["xsearch"]["ingest"]["passages"] == 400
    assert engines["xsearch"]["overhead"] == {"failed": "the index has no FAISS file: it is searched exactly"}
    assert [point["rows"] for point in found["growth"]] == [400]
    # All is there, so nothing is measured again.
    before = (work / "rows-400" / "xsearch.json").read_bytes()
    store.main(arguments)
    assert (work / "rows-400" / "xsearch.json").read_bytes() == before
    with pytest.raises(SystemExit):
        store.main([*arguments, "--engines", "xsearch,elastic"])
    assert "elastic: none of xsearch, faiss" in capsys.readouterr().err
