"""How often the sentence that a search marks is the one that answers, on MLQA-R, by language of paragraph and question.

Each question is put to its own paragraph in every language that has it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from record import write_result

from xsearch.encoder.load import load_encoder
from xsearch.evaluation.remembering import RememberingEncoder
from xsearch.evaluation.sentences import MarkingResult, evaluate_marking, load_marking


def main() -> None:
    """Runs all pairs and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="mlqa-r.zip")
    parser.add_argument("--langs", default="", metavar="LANG,LANG")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    encoder = RememberingEncoder(load_encoder(arguments.encoder))
    data = load_marking(arguments.data, langs=[lang for lang in arguments.langs.split(",") if lang])
    numbers = summary(evaluate_marking(data, encoder))
    print({key: value for key, value in numbers.items() if key != "pairs"})
    numbers = {"task": "MLQA-R, right sentence of the paragraph", "encoder": encoder.fingerprint.name, **numbers}
    print(write_result("sentences", numbers, arguments.output))


def summary(result: MarkingResult) -> dict[str, object]:
    """Means over questions and over pairs of languages, 0 to 1, and the pairs."""
    by_question = {
        name: sum(float(scores.values.sum()) for (doc, query), scores in result.pairs.items() if same == (doc == query))
        / max(1, result.questions[name])
        for name, same in (("mono", True), ("cross", False))
    }
    matrix = result.matrix
    return {
        "questions": result.questions,
        **{name: round(value, 5) for name, value in by_question.items()},
        "mean_of_pairs": {
            "mono": None if matrix.mono is None else round(matrix.mono, 5),
            "cross": None if matrix.cross is None else round(matrix.cross, 5),
        },
        "pairs": {f"{doc}-{query}": round(value, 5) for (doc, query), value in sorted(matrix.values.items())},
    }


if __name__ == "__main__":
    main()
