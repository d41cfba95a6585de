"""Writes the numbers of ``results/*.json`` into the README and the model card, between ``<!-- NAME -->`` marks.

What a benchmark has not measured yet is left out. Running it again changes nothing; a test holds to that.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xsearch.text.tags import canonical_tag

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
MODEL = Path("xsearch", "encoder", "mini", "weights.bin")
BUILTIN = "builtin (int8)"
# Features of processors that do nothing for products of small numbers.
COMMON = frozenset({"AVX2", "AVX512"})
# What the marks of the README and of the model card stand around.
Block = Callable[["Numbers"], str]


class Numbers:
    """What the benchmarks found.

    Args:
        results: the folder with their files.
        root: of the repository.
    """

    def __init__(self, results: Path, root: Path) -> None:
        self._results = results
        self._root = root

    def __getitem__(self, name: str) -> dict[str, Any]:
        """The numbers of one benchmark; empty where there are none."""
        path = self._results / f"{name}.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    def megabytes(self, encoder: str, scores: dict[str, Any]) -> str:
        """The size of an encoder's weights, as measured or, of the one that ships, as it lies there."""
        if "mb" in scores:
            return f"{scores['mb']:.0f}"
        return f"{(self._root / MODEL).stat().st_size / 1e6:.0f}" if encoder == BUILTIN else ""


def encoders(numbers: Numbers) -> str:
    """The table of encoders on MLQA: means over the same-language and the cross-language pairs, in points."""
    found = numbers["mlqa"].get("encoders", {})
    if not found:
        return ""
    lines = ["| encoder | MB | same language (7) | across languages (42) |", "|---|---:|---:|---:|"]
    for name, scores in found.items():
        cells = (name, numbers.megabytes(name, scores), _interval(scores, "mono"), _interval(scores, "cross"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def matrix(numbers: Numbers) -> str:
    """The built-in encoder's language pairs on MLQA, in points: contexts down, questions across."""
    scores = numbers["mlqa"].get("encoders", {}).get(BUILTIN)
    if not scores:
        return ""
    languages = sorted({pair.split("-")[0] for pair in scores["pairs"]})
    lines = [
        f"MLQA dev, MTEB protocol, nDCG@10: {_points(scores['mono'])} where question and text share the language, "
        f"{_points(scores['cross'])} across languages. Languages of the texts go down, of the questions across.",
        "",
        f"| | {' | '.join(languages)} |",
        "|---|" + "---:|" * len(languages),
    ]
    for context in languages:
        cells = (_points(scores["pairs"][f"{context}-{question}"]) for question in languages)
        lines.append(f"| **{context}** | {' | '.join(cells)} |")
    return "\n".join(lines)


def modes(numbers: Numbers) -> str:
    """The table of search modes on MLQA through the whole product."""
    found = numbers["hybrid"].get("means", {})
    if not found:
        return ""
    lines = ["| `--mode` | same language | across languages |", "|---|---:|---:|"]
    lines += [f"| {mode} | {_points(mean['mono'])} | {_points(mean['cross'])} |" for mode, mean in found.items()]
    return "\n".join(lines)


def speed(numbers: Numbers) -> str:
    """A list of what was timed and weighed, each with the machine it was on."""
    items: list[str] = []
    if encoding := numbers["encoding"]:
        items.append(_encoding(encoding))
    if start := numbers["cold_start"]:
        items.append(
            f"From a cold start: `xsearch --help` {start['help']['median_s']:.2f} s, `xsearch search` on the demo "
            f"index {start['search']['median_s']:.2f} s{_machine(start)}."
        )
    if memory := numbers["memory"]:
        small, large = memory["1x"], memory["10x"]
        items.append(
            f"Memory while indexing: {small['peak_mib']:.0f} MiB at most for {small['documents']:,} documents, "
            f"{large['peak_mib']:.0f} MiB for {large['documents']:,} ({memory['ratio']:.2f} times as "
            f"much){_machine(memory)}."
        )
    return "\n".join(f"- {item}" for item in items)


def _encoding(found: dict[str, Any]) -> str:
    """Passages with their length, tokens, and one query; beside the reference as far as that was measured."""
    text = f"Encoding: {found['builtin_passages_per_s']['median']:.0f} passages a second"
    if "tokens_per_passage" in found:
        rate = found["builtin_tokens_per_s"]["median"]
        text += f" of {found['tokens_per_passage']:.0f} tokens on average ({rate:,.0f} tokens a second)"
    if "ratio" in found:
        ratio = _spread(found["ratio"], 2)
        text += f", {ratio} times as many as sentence-transformers (torch, float32) with the same weights"
    query = f"one query takes {found['builtin_query_ms']['median']:.1f} ms"
    if "torch_query_ms" in found:
        query += f", there {found['torch_query_ms']['median']:.1f} ms"
    if "builtin_sentence_ms" in found:
        query += (
            f" (medians of {found['builtin_query_ms']['queries']} questions; a whole sentence "
            f"{found['builtin_sentence_ms']['median']:.1f} ms)"
        )
    return f"{text}; {query}{_machine(found, features=True)}."


def store(numbers: Numbers) -> str:
    """The table of engines on a million vectors, and what the whole product takes at each size that was measured."""
    found = numbers["store"]
    engines = found.get("rows", {}).get("1000000", {})
    if not engines:
        return ""
    head = ("engine", "build, s", "queries/s", "of a tenth", "of a hundredth", "one query, ms", "p99", "recall@10")
    lines = [f"| {' | '.join(head)} | bytes a passage |", "|---|" + "---:|" * len(head)]
    lines += [f"| {' | '.join(_engine(name, numbers))} |" for name, numbers in engines.items() if "build" in numbers]
    asked = (
        f"A million vectors of 384 dimensions, recall@10 of at least {found['recall_asked']} on the tuning queries, in "
        f"batches of 100, two threads; of a tenth and of a hundredth of them under a filter; bytes resident after "
        f"opening{_machine(found)}."
    )
    return "\n".join([*lines, "", asked, *_whole(found["rows"])])


def _engine(name: str, numbers: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table; what was not reached says so."""
    build, query = numbers.get("build", {}), numbers.get("query", {})
    searches = query.get("searches", {})
    rates = [_rate(searches.get(search, {}), numbers.get("tune", {}).get(search, {})) for search in
             ("all", "year10", "year1")]  # fmt: skip
    if "seconds" in build and not query:
        rates = ["not measured"] * len(rates)
    every = searches.get("all", {})
    return (
        name,
        f"{build['seconds']:,.0f}" if "seconds" in build else "failed",
        *rates,
        f"{every['p50_ms']:.2f}" if every else "",
        f"{every['p99_ms']:.2f}" if every else "",
        f"{every['recall']:.3f}" if every else "",
        f"{query['open']['after']['resident'] / 1e6:,.0f}" if "open" in query else "",
    )


def _rate(search: dict[str, Any], tuned: dict[str, Any]) -> str:
    if "queries_per_s" not in search:
        return "failed"
    rate = f"{search['queries_per_s']:,.0f}"
    return rate if tuned.get("reached") else f"{rate} (recall {search['recall']:.2f})"


def _whole(sizes: dict[str, Any]) -> list[str]:
    """Lines for each size: what it adds to FAISS, the whole product, and search alone beyond a million."""
    lines = []
    for rows, engines in sizes.items():
        mine = engines.get("xsearch", {})
        if "batch_overhead" in mine.get("overhead", {}):
            own, more = mine["overhead"]["xsearch"], _points(mine["overhead"]["batch_overhead"])
            lines.append(
                f"- {int(rows):,} passages as they are built by default: recall@10 {own['recall_of_all']:.3f} over all "
                f"queries; a batch of 100 takes {own['batch_ms']:.1f} ms, {more}% more than FAISS alone with the same "
                f"index file and the vectors in memory."
            )
        if "search_ms" in mine.get("whole", {}):
            whole, took = mine["whole"], mine["ingest"]["passages_per_s"]
            resident = whole["resident_bytes_a_passage"]
            lines.append(
                f"- {int(rows):,} passages with text: taken in at {took:,.0f} a second (vectors given), open in "
                f"{whole['ready_s']:.2f} s with {resident:,.0f} bytes a passage resident; `Index.search` "
                f"{whole['search_ms']['p50']:.1f} ms, of which encoding the query takes "
                f"{whole['encode_ms']['p50']:.1f} ms."
            )
        every = mine.get("query", {}).get("searches", {}).get("all", {})
        if int(rows) > 1_000_000 and "p50_ms" in every:
            lines.append(
                f"- {int(rows):,} passages: built in {mine['build']['seconds'] / 60:.0f} minutes, open in "
                f"{mine['query']['open']['seconds']:.2f} s; one query {every['p50_ms']:.1f} ms (p99 "
                f"{every['p99_ms']:.1f}) at recall@10 {every['recall']:.3f}."
            )
    return ["", *lines] if lines else []


def pool(numbers: Numbers) -> str:
    """The table of pools of all languages, and a line on finding translations."""
    found = numbers["languages"]
    rows = [
        _pool_row(name, found[key])
        for key, name in (("lareqa", "sentences, MLQA-R"), ("mlqa_pool", "contexts, MLQA dev"))
        if key in found
    ]
    lines: list[str] = []
    if rows:
        lines = [
            "| one pool of seven languages | mAP | right first | must cross, right first | first hit in the question's "
            "language (of the right ones) |",
            "|---|---:|---:|---:|---:|",
            *rows,
        ]
    translations = _translations(found)
    if translations:
        lines += ["", translations] if lines else [translations]
    return "\n".join(lines)


def _pool_row(name: str, found: dict[str, Any]) -> str:
    mean = found["mean"]
    cells = [f"{sum(found['documents'].values()):,} {name}", f"{mean['map']:.3f}"]
    cells += [f"{_points(mean[measure])}%" for measure in ("right_first", "must_cross")]
    cells.append(f"{_points(mean['first_own'])}% ({_points(mean['relevant_own'])}%)")
    return f"| {' | '.join(cells)} |"


def _translations(found: dict[str, Any]) -> str:
    """What Tatoeba and SIB-200 say of finding the translation of a sentence."""
    parts = []
    if "tatoeba" in found:
        xtreme = found["tatoeba"]["xtreme36"]
        parts.append(f"{_points(xtreme['accuracy'])}% (Tatoeba, the {xtreme['languages']} languages of XTREME)")
    if "sib200" in found:
        sib = found["sib200"]
        parts.append(
            f"{_points(sib['median'])}% in the median of {sib['mean']['languages']} languages, among "
            f"{sib['candidates']:,} sentences (SIB-200)"
        )
    return f"Finding the translation of a sentence, right: {'; '.join(parts)}." if parts else ""


def crossing(numbers: Numbers) -> str:
    """What the demo's questions find, which sentence is marked, and what tiny files do."""
    lines = []
    if demo := numbers["demo"]:
        modes = demo["modes"]
        right = ", ".join(
            f"{modes[mode]['questions_right']} with `--mode {mode}`" for mode in ("dense", "lexical", "hybrid")
        )
        lines.append(
            f"- The demo's {demo['questions']} questions, whose topic no text in their language is about: the first "
            f"hit is right for {right}. Of its {demo['titles']} titles {modes['dense']['titles_right']} find a text on "
            f"their topic first among the other languages (dense)."
        )
    if sentences := numbers["sentences"]:
        counts = sentences["questions"]
        lines.append(
            f"- The sentence marked in a passage is the one that answers for {_points(sentences['mono'])}% of "
            f"{counts['mono']:,} questions in the passage's language and {_points(sentences['cross'])}% of "
            f"{counts['cross']:,} in another (MLQA-R)."
        )
    if hubs := numbers["hubs"]:
        dense = hubs["tiny"]["dense"]
        lines.append(
            f"- Hubs: {len(hubs['tiny_files'])} files of a word or two beside the demo come among the first "
            f"{hubs['first']} hits of {dense['questions']} of its {hubs['questions']} questions and {dense['words']} "
            f"of {hubs['words']} single words (dense); over MLQA-R the skewness of how often a sentence is among the "
            f"{hubs['mlqa_r']['k']} nearest is {hubs['mlqa_r']['skewness']:.1f}."
        )
    return "\n".join(lines)


def tatoeba(numbers: Numbers) -> str:
    """Accuracy on Tatoeba's test pairs for each language that the vocabulary was cut for, most accurate first."""
    found = numbers["languages"]
    counted = {language["lang"] for language in numbers["coverage"].get("languages", [])}
    if "tatoeba" not in found or not counted:
        return ""
    rows = {pair.split("-")[0]: scores["accuracy"] for pair, scores in found["tatoeba"]["pairs"].items()}
    known = {code: accuracy for code, accuracy in rows.items() if canonical_tag(code) in counted}
    ordered = sorted(known.items(), key=lambda item: (-item[1], item[0]))
    cells = ", ".join(f"{canonical_tag(code)} {_points(accuracy)}" for code, accuracy in ordered)
    others = [accuracy for code, accuracy in rows.items() if code not in known]
    rest = (
        f"; the other {len(others)} languages of the set {_points(sum(others) / len(others))} on average"
        if others
        else ""
    )
    return f"Tatoeba, % of sentences that are nearest to their translation, both directions: {cells}{rest}."


def ablation(numbers: Numbers) -> str:
    """What each part of the recipe is worth, at a small budget of steps."""
    found = numbers["ablation"]
    if not found:
        return ""
    lines = [f"| {found['steps']} steps, MLQA dev | same language | across languages |", "|---|---:|---:|"]
    lines += [
        f"| {name} | {_points(row['mono'])} | {_points(row['cross'])} |" for name, row in found["variants"].items()
    ]
    return "\n".join(lines)


def training(numbers: Numbers) -> str:
    """What the run took."""
    found = numbers["training"]
    if not found:
        return ""
    filters, rate = found["filters"], found["tokens_per_s"]["median"]
    overlap = filters["removed"].get("evaluation overlap", 0)
    return (
        f"{found['steps']:,} steps in {found['hours']:.1f} hours, {rate:,.0f} tokens a second, "
        f"{100 * found['gemm_peak_share']:.0f}% of what the machine's matrix products reach by themselves"
        f"{_machine(found)}. Of {filters['seen']:,} pairs read, {filters['kept']:,} passed the filters ({overlap:,} "
        f"shared text with evaluation data), and {found['examples']['total']:,} examples were drawn from them."
    )


PAGES: dict[Path, dict[str, Block]] = {
    Path("README.md"): {
        "mlqa": encoders,
        "pool": pool,
        "crossing": crossing,
        "modes": modes,
        "speed": speed,
        "store": store,
    },
    MODEL.with_name("README.md"): {
        "mlqa": matrix,
        "pool": pool,
        "tatoeba": tatoeba,
    },
    Path("recipes", "README.md"): {"training": training, "ablation": ablation},
}


def rewrite(text: str, blocks: dict[str, Block], numbers: Numbers) -> str:
    """The page with each block that it has marks for filled in."""
    for name, render in blocks.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        content = render(numbers)
        whole = f"{start}\n\n{content}\n\n{end}" if content else f"{start}\n{end}"
        pattern = re.compile(re.escape(start) + f"(?:(?:(?!{re.escape(start)}).)*?{re.escape(end)})?", re.DOTALL)
        text = pattern.sub(lambda _, whole=whole: whole, text)
    return text


def main() -> None:
    """Rewrites the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is not up to date")
    arguments = parser.parse_args()
    numbers = Numbers(RESULTS, ROOT)
    stale: list[Path] = []
    for page, blocks in PAGES.items():
        path = ROOT / page
        before = path.read_text(encoding="utf-8")
        after = rewrite(before, blocks, numbers)
        if after != before:
            stale.append(page)
            if not arguments.check:
                path.write_text(after, encoding="utf-8")
    print(*(f"{page} {'is not up to date' if arguments.check else 'rewritten'}" for page in stale), sep="\n")
    if stale and arguments.check:
        raise SystemExit(1)


def _points(value: float) -> str:
    return f"{value * 100:.1f}"


def _interval(scores: dict[str, Any], kind: str) -> str:
    low, high = scores[f"{kind}_ci"]
    return f"{_points(scores[kind])} ({_points(low)} to {_points(high)})"


def _spread(values: dict[str, float], digits: int) -> str:
    return f"{values['median']:.{digits}f} ({values['min']:.{digits}f} to {values['max']:.{digits}f})"


def _machine(numbers: dict[str, Any], *, features: bool = False) -> str:
    """The machine, and if asked for what it has for products of small numbers, where that was noted."""
    environment = numbers["environment"]
    if not features or "features" not in environment:
        return f" ({environment['machine']})"
    small = [name for name in environment["features"] if name not in COMMON] or ["no VNNI"]
    return f" ({environment['machine']}; {', '.join(small)})"


if __name__ == "__main__":
    main()
