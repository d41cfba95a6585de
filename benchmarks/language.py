"""Measure language detection on Tatoeba: who is right how often, how fast it starts, what it weighs.

    python benchmarks/language.py --data tatoeba.zip

The archive is LASER's test set, 112 languages with English. Compares xsearch's detector with py3langid
alone and, where the package lingua-language-detector is installed, with lingua in both its modes.

A text is named rightly when its language or the macrolanguage around it is named (Chinese for Wu, Arabic for Egyptian
Arabic); a text called ``und`` is not named.
Accuracy = right / texts, coverage = named / texts, precision = right / named.
Whether any detector saw Tatoeba sentences in training is not known. Times are of a shared machine, and noisy.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from record import write_result

from xsearch.text.language import UND, canonical_tag, detect_with_confidence, matches

Detector = Callable[[str], tuple[str, float]]

LENGTH_CLASSES = ((1, 3), (4, 7), (8, 11), (12, 19), (20, 39), (40, 10_000))
ENGLISH_TEXTS = 3000
# What the scripts of xsearch name beyond the labels of py3langid.
BY_SCRIPT_ALONE = {"yi", "ckb", "sd"}

START_UP = """
import time
def peak():  # VmHWM, not ru_maxrss: that one begins at the parent's peak
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
before, began = peak(), time.perf_counter()
{setup}
print(time.perf_counter() - began, peak() - before)
"""
SETUPS = {
    "xsearch": "from xsearch.text.language import detect\ndetect('Wer hat den Vertrag unterschrieben?')",
    "xsearch, a script of one language": "from xsearch.text.language import detect\ndetect('서울')",
    "py3langid": (
        "from py3langid.langid import MODEL_FILE, LanguageIdentifier\n"
        "LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)"
        ".classify('Wer hat den Vertrag unterschrieben?')"
    ),
    "lingua": (
        "from lingua import LanguageDetectorBuilder\n"
        "LanguageDetectorBuilder.from_all_languages().build()"
        ".detect_language_of('Wer hat den Vertrag unterschrieben?')"
    ),
    "lingua, low accuracy": (
        "from lingua import LanguageDetectorBuilder\n"
        "LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()"
        ".detect_language_of('Wer hat den Vertrag unterschrieben?')"
    ),
}


def read_texts(archive: Path) -> list[tuple[str, str]]:
    """Every translation with its ISO 639-3 code, and an even sample of the English sides."""
    texts: list[tuple[str, str]] = []
    english: set[str] = set()
    with zipfile.ZipFile(archive) as members:
        for name in sorted(members.namelist()):
            if "-eng." not in name:
                continue
            side = name.rsplit(".", 1)[1]
            lines = members.read(name).decode("utf-8").splitlines()
            if side == "eng":
                english.update(lines)
            else:
                texts += [(line, side) for line in lines]
    ordered = sorted(english)
    return texts + [(line, "eng") for line in ordered[:: max(1, len(ordered) // ENGLISH_TEXTS)]]


def detectors() -> dict[str, tuple[Detector, set[str]]]:
    """Each detector at hand with the languages it can name."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    labels = {canonical_tag(label).split("-")[0] for label in identifier.labels} - {UND}

    def ours(text: str) -> tuple[str, float]:
        detection = detect_with_confidence(text)
        return detection.lang, detection.confidence

    found: dict[str, tuple[Detector, set[str]]] = {
        "xsearch": (ours, labels | BY_SCRIPT_ALONE),
        "py3langid": (identifier.classify, labels),
    }
    try:
        from lingua import Language, LanguageDetectorBuilder
    except ImportError:
        return found
    names = {language.iso_code_639_1.name.lower() for language in Language.all()}
    few = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    few.set_languages(sorted((names & set(identifier.labels)) | {"no"}))
    found["py3langid, lingua's languages"] = (few.classify, labels & names)
    for name, builder in (
        ("lingua", LanguageDetectorBuilder.from_all_languages()),
        ("lingua, low accuracy", LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode()),
    ):
        detector = builder.build()

        def classify(text: str, detector: Any = detector) -> tuple[str, float]:
            best = detector.compute_language_confidence_values(text)[0]
            return best.language.iso_code_639_1.name.lower(), best.value

        found[name] = (classify, names)
    return found


@cache
def is_right(lang: str, code: str) -> bool:
    """Whether ``lang`` names the language of ``code`` or a language around it."""
    named, gold = canonical_tag(lang).split("-")[0], canonical_tag(code).split("-")[0]
    return matches(named, gold) or matches(gold, named)


@cache
def is_known(code: str, languages: frozenset[str]) -> bool:
    """Whether a detector with these languages can be right about ``code``."""
    return any(is_right(lang, code) for lang in languages)


def tally(rows: Iterable[tuple[bool, bool]]) -> dict[str, float]:
    """Accuracy, coverage and precision of (named, right) rows."""
    listed = list(rows)
    named, right = sum(row[0] for row in listed), sum(row[1] for row in listed)
    return {
        "texts": len(listed),
        "accuracy": round(right / max(1, len(listed)), 4),
        "coverage": round(named / max(1, len(listed)), 4),
        "precision": round(right / max(1, named), 4),
    }


def measure(
    texts: list[tuple[str, str]], detector: Detector, languages: set[str], common: set[str], floors: tuple[float, ...]
) -> dict[str, Any]:
    """All numbers of one detector; below each floor of confidence its answer counts as ``und``."""
    detector("Good morning to all of you")  # the model is in memory before the clock starts
    began = time.perf_counter()
    answers = [detector(text) for text, _ in texts]
    seconds = time.perf_counter() - began
    own = frozenset(languages)
    report: dict[str, Any] = {"languages": len(languages), "texts_per_s": round(len(texts) / seconds)}
    for floor in floors:
        rows = [
            (code, sum(map(str.isalpha, text)), lang != UND and confidence >= floor, is_right(lang, code))
            for (text, code), (lang, confidence) in zip(texts, answers, strict=True)
        ]
        by_language: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
        for code, _, named, right in rows:
            by_language[code].append((named, named and right))
        known = [row for row in rows if is_known(row[0], own)]
        unknown = [row for row in rows if not is_known(row[0], own)]
        table = {code: tally(group) for code, group in sorted(by_language.items())}
        accuracies = [table[code]["accuracy"] for code in table if is_known(code, own)]
        report[f"confidence >= {floor}"] = {
            "known_languages": tally((named, named and right) for _, _, named, right in known),
            "known_languages_mean_accuracy": round(sum(accuracies) / len(accuracies), 4),
            "languages_all_detectors_know": tally(
                (named, named and right) for code, _, named, right in rows if code in common
            ),
            "unknown_languages_named": tally((named, False) for _, _, named, _ in unknown)["coverage"],
            "by_letters": {
                f"{first}-{last}" if last < 10_000 else f"{first}-": tally(
                    (named, named and right) for _, letters, named, right in known if first <= letters <= last
                )
                for first, last in LENGTH_CLASSES
            },
            "by_language": table,
        }
    return report


def start_up(setup: str) -> dict[str, float]:
    """Seconds and MiB from nothing to the first answer, in a fresh process; the best of three."""
    runs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", START_UP.format(setup=setup)], check=True, capture_output=True, text=True
        )
        runs.append([float(value) for value in done.stdout.split()])
    return {"seconds": round(min(run[0] for run in runs), 3), "mib": round(min(run[1] for run in runs))}


def installed_mib(package: str) -> float:
    """What a package's files weigh on disk."""
    files = metadata.files(package) or []
    paths = [Path(str(file.locate())) for file in files]
    return round(sum(path.stat().st_size for path in paths if path.is_file()) / 2**20, 1)


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="tatoeba.zip")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()

    texts = read_texts(arguments.data)
    found = detectors()
    common = {code for _, code in texts if all(is_known(code, frozenset(languages)) for _, languages in found.values())}
    packages = {"py3langid": "py3langid"} | ({"lingua": "lingua-language-detector"} if "lingua" in found else {})
    report: dict[str, Any] = {
        "what": "Language detection on Tatoeba: accuracy = right / texts; coverage = named / texts; "
        "precision = right / named; a macrolanguage counts as right; times are noisy (shared machine)",
        "data": f"LASER's Tatoeba test set, {len(texts)} texts, {len({code for _, code in texts})} languages",
        "versions": {package: metadata.version(package) for package in packages.values()},
        "installed_mib": {name: installed_mib(package) for name, package in packages.items()},
        "start_up": {
            name: start_up(setup) for name, setup in SETUPS.items() if "lingua" in found or "lingua" not in name
        },
        "languages_all_detectors_know": len(common),
        "detectors": {},
    }
    for name, (detector, languages) in found.items():
        floors = (0.0,) if name == "xsearch" else (0.0, 0.5, 0.7)
        report["detectors"][name] = measure(texts, detector, languages, common, floors)
        for floor in floors:
            numbers = report["detectors"][name][f"confidence >= {floor}"]
            print(name, floor, numbers["known_languages"], numbers["languages_all_detectors_know"], file=sys.stderr)
    for name, numbers in report[
        "detectors"
    ].items():  # the table by language once a detector, but for ours and the best
        for floor in (0.5, 0.7):
            if name != "xsearch":
                numbers[f"confidence >= {floor}"].pop("by_language")
    print(write_result("language", report, arguments.output))


if __name__ == "__main__":
    main()
