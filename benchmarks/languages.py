"""The built-in encoder across languages: Tatoeba's test pairs, and LAReQA's pool of sentences in all languages."""

from __future__ import annotations

import argparse
from pathlib import Path

from record import write_result

from xsearch.encoder.load import load_encoder
from xsearch.evaluation.lareqa import load_lareqa
from xsearch.evaluation.run import RunOptions, evaluate
from xsearch.evaluation.tatoeba import evaluate_tatoeba, load_tatoeba


def main() -> None:
    """Runs both and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tatoeba", type=Path, required=True, help="tatoeba.zip of LASER")
    parser.add_argument("--lareqa", type=Path, required=True, help="mlqa-r.zip")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.encoder)
    options = RunOptions(bootstrap=0)
    pairs = evaluate_tatoeba(load_tatoeba(arguments.tatoeba), encoder, options=options).to_dict()
    print(f"Tatoeba: {pairs['mean']}")
    pooled = evaluate(load_lareqa(arguments.lareqa), encoder, options=options).to_dict()
    print(f"LAReQA: {pooled['mean']}")
    numbers = {"encoder": encoder.fingerprint.name, "tatoeba": pairs, "lareqa": pooled}
    print(write_result("languages", numbers, arguments.output))


if __name__ == "__main__":
    main()
