"""The numbers of the README and of the model card are those under ``benchmarks/results/``."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def readme() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_readme", ROOT / "benchmarks" / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Made-up results."""
    pairs = {f"{a}-{b}": 0.5 + 0.1 * (a == b) + 0.01 * (a < b) for a in ("de", "en") for b in ("de", "en")}
    mlqa = {"mono": 0.61234, "cross": 0.505, "mono_ci": [0.6, 0.62], "cross_ci": [0.4999, 0.5101], "pairs": pairs}
    machine = {"environment": {"machine": "Abacus 3, 2 cores"}}
    spread = {"min": 1.0, "median": 2.346, "max": 3.0}
    pooled = {
        "map": 0.31234, "right_first": 0.46, "must_cross": 0.3641, "first_own": 0.4366, "relevant_own": 0.2719,
    }  # fmt: skip
    files: dict[str, dict[str, Any]] = {
        "mlqa": {"encoders": {"builtin (int8)": mlqa, "other": {**mlqa, "mb": 90.6, "mono": 0.5}}, **machine},
        "encoding": {
            "builtin_passages_per_s": {**spread, "median": 123.4},
            "ratio": spread,
            "builtin_query_ms": spread,
            "torch_query_ms": {**spread, "median": 9.87},
            **machine,
        },
        "cold_start": {"help": {"median_s": 0.123}, "search": {"median_s": 1.4567}, **machine},
        "memory": {
            "1x": {"documents": 720, "peak_mib": 400.4},
            "10x": {"documents": 7200, "peak_mib": 420.0},
            "ratio": 1.049,
            **machine,
        },
        "languages": {
            "tatoeba": {
                "xtreme36": {"accuracy": 0.6789, "languages": 36},
                "pairs": {"cmn-eng": {"accuracy": 0.9}, "deu-eng": {"accuracy": 0.95}, "kat-eng": {"accuracy": 0.02}},
            },
            "lareqa": {"mean": pooled, "documents": {"de": 1000, "en": 2345}},
            "mlqa_pool": {"mean": {**pooled, "map": 0.4}, "documents": {"de": 70, "en": 80}},
            "sib200": {"mean": {"accuracy": 0.5, "languages": 204}, "median": 0.4567, "candidates": 1004},
        },
        "demo": {
            "questions": 67,
            "titles": 90,
            "modes": {
                mode: {"questions_right": right, "titles_right": right + 1}
                for mode, right in (("dense", 41), ("lexical", 4), ("hybrid", 27))
            },
        },
        "sentences": {"questions": {"mono": 4199, "cross": 11548}, "mono": 0.7412, "cross": 0.5698},
        "hubs": {
            "questions": 67,
            "words": 10,
            "first": 3,
            "tiny_files": ["ok", "TODO"],
            "tiny": {"dense": {"questions": 1, "words": 8}},
            "mlqa_r": {"k": 10, "skewness": 3.4567},
        },
        "training": {
            "steps": 6500,
            "hours": 1.26,
            "tokens_per_s": {**spread, "median": 2750.4},
            "gemm_peak_share": 0.744,
            "filters": {"seen": 5000, "kept": 4000, "removed": {"evaluation overlap": 12}},
            "examples": {"total": 3000, "by_language": {"de": {"sentence": 7}, "zh": {"sentence": 8}}},
            **machine,
        },
        "coverage": {"languages": [{"lang": "de", "kept": 0.99}, {"lang": "zh", "kept": 0.98}]},
        "store": {
            "recall_asked": 0.95,
            "rows": {
                "1000000": {
                    "xsearch": {
                        "build": {"seconds": 123.4},
                        "tune": {"all": {"reached": True}, "year10": {"reached": True}, "year1": {"reached": False}},
                        "query": {
                            "open": {"after": {"resident": 512_300_000}},
                            "searches": {
                                "all": {"queries_per_s": 4321.6, "p50_ms": 0.514, "p99_ms": 2.0, "recall": 0.9523},
                                "year10": {"queries_per_s": 3000.0, "recall": 0.96},
                                "year1": {"queries_per_s": 99.0, "recall": 0.91},
                            },
                        },
                        "ingest": {"passages_per_s": 23456.7},
                        "whole": {
                            "ready_s": 0.512,
                            "resident_bytes_a_passage": 512.3,
                            "search_ms": {"p50": 7.25},
                            "encode_ms": {"p50": 4.0},
                        },
                        "overhead": {"batch_overhead": 0.0987, "xsearch": {"recall_of_all": 0.9561, "batch_ms": 21.04}},
                    },
                    "chroma": {"choose": {"settings": {}}, "build": {"failed": "took more than 3600 s"}},
                    "txtai": {"choose": {"settings": {}}, "build": {"seconds": 280.0}},
                    "usearch": {"choose": {"settings": {}}},
                },
                "10000000": {
                    "xsearch": {
                        "build": {"seconds": 1234.0},
                        "query": {
                            "open": {"seconds": 0.987},
                            "searches": {"all": {"p50_ms": 6.54, "p99_ms": 9.0, "recall": 0.951}},
                        },
                    },
                },
            },
            **machine,
        },
        "ablation": {"steps": 99, "variants": {"whole recipe": {"mono": 0.5, "cross": 0.4}}},
        "hybrid": {"means": {"dense": {"mono": 0.5, "cross": 0.4}, "hybrid": {"mono": 0.75, "cross": 0.5346}}},
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_the_pages_are_up_to_date(readme: ModuleType) -> None:
    numbers = readme.Numbers(readme.RESULTS, ROOT)
    for page, blocks in readme.PAGES.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        assert all(f"<!-- {name} -->" in text for name in blocks)
        assert readme.rewrite(text, blocks, numbers) == text, f"run: python benchmarks/readme.py ({page})"


def test_blocks_of_made_up_results(readme: ModuleType, results: Path) -> None:
    numbers = readme.Numbers(results, ROOT)
    assert readme.encoders(numbers) == (
        "| encoder | MB | same language (7) | across languages (42) |\n"
        "|---|---:|---:|---:|\n"
        "| builtin (int8) | 44 | 61.2 (60.0 to 62.0) | 50.5 (50.0 to 51.0) |\n"
        "| other | 91 | 50.0 (60.0 to 62.0) | 50.5 (50.0 to 51.0) |"
    )
    assert readme.matrix(numbers).splitlines()[2:] == [
        "| | de | en |",
        "|---|---:|---:|",
        "| **de** | 60.0 | 51.0 |",
        "| **en** | 50.0 | 60.0 |",
    ]
    assert readme.speed(numbers).splitlines() == [
        "- Encoding: 123 passages a second, 2.35 (1.00 to 3.00) times as many as sentence-transformers (torch, "
        "float32) with the same weights; one query takes 2.3 ms, there 9.9 ms (Abacus 3, 2 cores).",
        "- From a cold start: `xsearch --help` 0.12 s, `xsearch search` on the demo index 1.46 s (Abacus 3, 2 cores).",
        "- Memory while indexing: 400 MiB at most for 720 documents, 420 MiB for 7,200 (1.05 times as much) "
        "(Abacus 3, 2 cores).",
    ]
    assert readme.pool(numbers).splitlines() == [
        "| one pool of seven languages | mAP | right first | must cross, right first | first hit in the question's "
        "language (of the right ones) |",
        "|---|---:|---:|---:|---:|",
        "| 3,345 sentences, MLQA-R | 0.312 | 46.0% | 36.4% | 43.7% (27.2%) |",
        "| 150 contexts, MLQA dev | 0.400 | 46.0% | 36.4% | 43.7% (27.2%) |",
        "",
        "Finding the translation of a sentence, right: 67.9% (Tatoeba, the 36 languages of XTREME); 45.7% in the "
        "median of 204 languages, among 1,004 sentences (SIB-200).",
    ]
    assert readme.crossing(numbers).splitlines() == [
        "- The demo's 67 questions, whose topic no text in their language is about: the first hit is right for 41 with "
        "`--mode dense`, 4 with `--mode lexical`, 27 with `--mode hybrid`. Of its 90 titles 42 find a text on their "
        "topic first among the other languages (dense).",
        "- The sentence marked in a passage is the one that answers for 74.1% of 4,199 questions in the passage's "
        "language and 57.0% of 11,548 in another (MLQA-R).",
        "- Hubs: 2 files of a word or two beside the demo come among the first 3 hits of 1 of its 67 questions and 8 "
        "of 10 single words (dense); over MLQA-R the skewness of how often a sentence is among the 10 nearest is 3.5.",
    ]
    assert readme.tatoeba(numbers) == (
        "Tatoeba, % of sentences that are nearest to their translation, both directions: de 95.0, zh 90.0; the other "
        "1 languages of the set 2.0 on average."
    )
    assert readme.training(numbers) == (
        "6,500 steps in 1.3 hours, 2,750 tokens a second, 74% of what the machine's matrix products reach by "
        "themselves (Abacus 3, 2 cores). Of 5,000 pairs read, 4,000 passed the filters (12 shared text with "
        "evaluation data), and 3,000 examples were drawn from them."
    )
    assert readme.store(numbers).splitlines()[2:] == [
        "| xsearch | 123 | 4,322 | 3,000 | 99 (recall 0.91) | 0.51 | 2.00 | 0.952 | 512 |",
        "| chroma | failed | failed | failed | failed |  |  |  |  |",
        "| txtai | 280 | not measured | not measured | not measured |  |  |  |  |",
        "",
        "A million vectors of 384 dimensions, recall@10 of at least 0.95 on the tuning queries, in batches of 100, two "
        "threads; of a tenth and of a hundredth of them under a filter; bytes resident after opening (Abacus 3, 2 "
        "cores).",
        "",
        "- 1,000,000 passages as they are built by default: recall@10 0.956 over all queries; a batch of 100 takes "
        "21.0 ms, 9.9% more than FAISS alone with the same index file and the vectors in memory.",
        "- 1,000,000 passages with text: taken in at 23,457 a second (vectors given), open in 0.51 s with 512 bytes a "
        "passage resident; `Index.search` 7.2 ms, of which encoding the query takes 4.0 ms.",
        "- 10,000,000 passages: built in 21 minutes, open in 0.99 s; one query 6.5 ms (p99 9.0) at recall@10 0.951.",
    ]
    assert readme.ablation(numbers).splitlines()[2:] == ["| whole recipe | 50.0 | 40.0 |"]
    assert readme.modes(numbers).splitlines()[2:] == ["| dense | 50.0 | 40.0 |", "| hybrid | 75.0 | 53.5 |"]


def test_encoding_with_what_was_measured(readme: ModuleType, results: Path) -> None:
    spread = {"min": 1.0, "median": 2.346, "max": 3.0}
    found: dict[str, Any] = {
        "tokens_per_passage": 172.4,
        "builtin_passages_per_s": {**spread, "median": 101.9},
        "builtin_tokens_per_s": {**spread, "median": 17567.8},
        "builtin_query_ms": {**spread, "queries": 500},
        "builtin_sentence_ms": {**spread, "median": 4.56},
        "environment": {"machine": "Abacus 3, 2 cores", "features": ["AVX2", "AVX512", "AVX512-VNNI"]},
    }
    path = results / "encoding.json"
    path.write_text(json.dumps(found))
    numbers = readme.Numbers(results, ROOT)
    assert readme.speed(numbers).splitlines()[0] == (
        "- Encoding: 102 passages a second of 172 tokens on average (17,568 tokens a second); one query takes 2.3 ms "
        "(medians of 500 questions; a whole sentence 4.6 ms) (Abacus 3, 2 cores; AVX512-VNNI)."
    )
    beside = {"ratio": spread, "torch_query_ms": {**spread, "median": 9.87}}
    plain = {"environment": {"machine": "Abacus 3, 2 cores", "features": ["AVX2"]}}
    path.write_text(json.dumps({**found, **beside, **plain}))
    assert readme.speed(numbers).splitlines()[0] == (
        "- Encoding: 102 passages a second of 172 tokens on average (17,568 tokens a second), 2.35 (1.00 to 3.00) "
        "times as many as sentence-transformers (torch, float32) with the same weights; one query takes 2.3 ms, there "
        "9.9 ms (medians of 500 questions; a whole sentence 4.6 ms) (Abacus 3, 2 cores; no VNNI)."
    )


def test_a_pool_alone(readme: ModuleType, results: Path) -> None:
    path = results / "languages.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({"mlqa_pool": whole["mlqa_pool"]}))
    numbers = readme.Numbers(results, ROOT)
    assert len(readme.pool(numbers).splitlines()) == 3
    assert readme.tatoeba(numbers) == ""
    path.write_text(json.dumps({"sib200": whole["sib200"]}))
    assert readme.pool(numbers) == (
        "Finding the translation of a sentence, right: 45.7% in the median of 204 languages, among 1,004 sentences "
        "(SIB-200)."
    )


@pytest.mark.parametrize("before", ["<!-- speed -->", "<!-- speed -->old\nnumbers<!-- /speed -->"])
def test_rewriting_twice_is_rewriting_once(readme: ModuleType, results: Path, before: str) -> None:
    numbers = readme.Numbers(results, ROOT)
    page = f"# Title\n\n<!-- mlqa -->\n\n{before}\n\nThe <!-- end -->.\n"
    blocks = {"mlqa": readme.encoders, "speed": readme.speed}
    once = readme.rewrite(page, blocks, numbers)
    assert readme.rewrite(once, blocks, numbers) == once
    assert once.startswith("# Title\n\n<!-- mlqa -->\n\n| encoder |")
    assert once.endswith("(Abacus 3, 2 cores).\n\n<!-- /speed -->\n\nThe <!-- end -->.\n")
    assert "old\n" not in once


def test_what_was_not_measured_is_left_out(readme: ModuleType, results: Path, tmp_path: Path) -> None:
    (results / "encoding.json").unlink()
    numbers = readme.Numbers(results, ROOT)
    assert readme.speed(numbers).startswith("- From a cold start")
    nothing = readme.Numbers(tmp_path / "nowhere", ROOT)
    page = "a\n<!-- mlqa -->\n\nold\n\n<!-- /mlqa -->\nb\n"
    assert readme.rewrite(page, {"mlqa": readme.matrix}, nothing) == "a\n<!-- mlqa -->\n<!-- /mlqa -->\nb\n"
