"""The demo's questions, whose topic no text in their language is about, and its titles, put to an index of the demo.

In each mode of search, and as a search that names no mode:

- a question is right where its first hit is about its topic;
- a title is right where, of the hits that are not in its language, the first is about its text's topic;
- probes, which no text answers, and gibberish: the scores of their first hits beside those of the right first hits.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demo_corpus import DemoText, Question, crossing_questions, demo_index, demo_texts
from record import write_result

from xsearch import Hits, Index, SearchOptions
from xsearch.encoder.load import load_encoder

MODES = ("dense", "lexical", "hybrid")
DEFAULT = "default"
# All passages of the corpus, so that the hits in other languages are all there.
DEPTH = 1000
# Questions that the corpus does not answer, in its languages and others, then texts that ask nothing.
UNANSWERABLE = (
    "Who won the football world cup in 2014?",
    "Wie hoch ist die Mehrwertsteuer in Dänemark?",
    "¿Cómo se instala una impresora en red?",
    "Qui a composé le Boléro ?",
    "ما هي عاصمة أستراليا؟",
    "शतरंज के अलावा क्रिकेट में कितने खिलाड़ी होते हैं?",
    "Làm thế nào để đổi mật khẩu Wi-Fi?",
    "怎样更换汽车的轮胎？",
    "Сколько стоит билет на метро в Токио?",
    "明日の天気はどうですか？",
    "Quanto tempo deve cuocere la pasta al dente?",
    "Hoe vraag ik een nieuw paspoort aan?",
)
GIBBERISH = (
    "asdf qwer zxcv hjkl",
    "blorf snindle quaggish vemp",
    "xkcd 8f3a-77q zzzz",
    "!!! ??? ###",
    "ضصثق شسيب ءئؤر",
    "कखगघ ङचछज झञटठ",
    "的了是我不在人有他这",
    "йцукен фывапр ячсмит",
    "あかさたな はまやらわ",
    "가나다라 마바사아",
    "กขฃคฅฆง จฉชซฌ",
    "αβγδ εζηθ ικλμ",
)


def main() -> None:
    """Asks everything in every mode and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.encoder)
    texts, questions = demo_texts(), crossing_questions()
    with tempfile.TemporaryDirectory() as folder, demo_index(Path(folder), encoder) as index:
        modes = {mode: measure(index, mode, texts, questions) for mode in (*MODES, DEFAULT)}
    numbers = {
        "task": "demo corpus: questions that must cross languages, titles to texts in other languages",
        "encoder": encoder.fingerprint.name,
        "questions": len(questions),
        "titles": len(texts),
        "modes": modes,
    }
    for mode, found in modes.items():
        print(mode, found["questions_right"], found["titles_right"], found["scores"])
    print(write_result("demo", numbers, arguments.output))


def measure(index: Index, mode: str, texts: Mapping[str, DemoText], questions: Sequence[Question]) -> dict[str, Any]:
    """What one mode finds: counts, the spread of scores, and the outcome of each question, title and probe."""
    asked = _search(index, mode, [question.text for question in questions])
    outcomes = [question_outcome(question, hits, texts) for question, hits in zip(questions, asked, strict=True)]
    named = _search(index, mode, [text.title for text in texts.values()])
    titles = [title_outcome(text, hits, texts) for text, hits in zip(texts.values(), named, strict=True)]
    probes = {
        kind: {query: _first_score(hits) for query, hits in zip(queries, _search(index, mode, queries), strict=True)}
        for kind, queries in (("unanswerable", UNANSWERABLE), ("gibberish", GIBBERISH))
    }
    scores = {
        "right": spread([outcome["score"] for outcome in outcomes if outcome["right"]]),
        "wrong": spread([outcome["score"] for outcome in outcomes if not outcome["right"]]),
        **{kind: spread(list(found.values())) for kind, found in probes.items()},
    }
    return {
        "questions_right": sum(outcome["right"] for outcome in outcomes),
        "titles_right": sum(outcome["right"] for outcome in titles),
        "first_hits_in_own_language": sum(outcome["found_lang"] == outcome["lang"] for outcome in outcomes),
        "scores": scores,
        "outcomes": outcomes,
        "title_outcomes": titles,
        "probes": probes,
    }


def question_outcome(question: Question, hits: Hits, texts: Mapping[str, DemoText]) -> dict[str, Any]:
    """Whether the first hit is about the question's topic, and at which rank the first such text stands."""
    found = texts[hits[0].doc_id] if hits else None
    ranked = list(dict.fromkeys(hit.doc_id for hit in hits))
    ranks = [rank for rank, doc_id in enumerate(ranked, 1) if texts[doc_id].topic == question.topic]
    return {
        "id": question.query_id,
        "lang": question.lang,
        "topic": question.topic,
        "right": found is not None and found.topic == question.topic,
        "rank": ranks[0] if ranks else None,
        "found_topic": None if found is None else found.topic,
        "found_lang": None if found is None else found.lang,
        "score": _first_score(hits),
    }


def title_outcome(text: DemoText, hits: Hits, texts: Mapping[str, DemoText]) -> dict[str, Any]:
    """Whether the first hit in another language is about the same topic."""
    others = [texts[hit.doc_id] for hit in hits if texts[hit.doc_id].lang != text.lang]
    return {
        "title": text.title,
        "lang": text.lang,
        "topic": text.topic,
        "right": bool(others) and others[0].topic == text.topic,
        "found_topic": others[0].topic if others else None,
        "found_lang": others[0].lang if others else None,
    }


def spread(scores: Sequence[float | None]) -> dict[str, float] | None:
    """The least, the middle and the greatest; of searches that found something."""
    found = [score for score in scores if score is not None]
    if not found:
        return None
    return {
        "min": round(min(found), 4),
        "median": round(statistics.median(found), 4),
        "max": round(max(found), 4),
    }


def _search(index: Index, mode: str, queries: Sequence[str]) -> list[Hits]:
    options = SearchOptions(k=DEPTH) if mode == DEFAULT else SearchOptions(k=DEPTH, mode=mode)
    return index.search_many(list(queries), options)


def _first_score(hits: Hits) -> float | None:
    return round(float(hits[0].score), 4) if hits else None


if __name__ == "__main__":
    main()
