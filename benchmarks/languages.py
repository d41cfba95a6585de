"""An encoder across languages: Tatoeba's pairs, SIB-200 as a bitext, and two pools of all languages.

The pools are LAReQA's MLQA-R (sentences) and MLQA dev (its contexts); their questions are the same. Each text goes
through a door of the encoder once. Parts without data are left out, or kept from an earlier run (--add).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from record import RESULTS, write_result

from xsearch.encoder.load import load_encoder
from xsearch.evaluation.lareqa import load_lareqa
from xsearch.evaluation.mlqa_pool import load_mlqa_pool
from xsearch.evaluation.pool import evaluate_pool
from xsearch.evaluation.remembering import RememberingEncoder
from xsearch.evaluation.run import RunOptions
from xsearch.evaluation.sib200 import Sib200Split, evaluate_sib200, load_sib200
from xsearch.evaluation.tatoeba import evaluate_tatoeba, load_tatoeba

PARTS = ("lareqa", "mlqa_pool", "tatoeba", "sib200")


def main() -> None:
    """Runs what there is data for and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tatoeba", type=Path, help="tatoeba.zip of LASER")
    parser.add_argument("--lareqa", type=Path, help="mlqa-r.zip")
    parser.add_argument("--mlqa", type=Path, help="MLQA_V1.zip, or its dev part")
    parser.add_argument("--sib200", type=Path, help="sib-200.zip")
    parser.add_argument("--sib200-split", default="all", choices=[split.value for split in Sib200Split])
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--add", action="store_true", help="keep what the file has of the same encoder")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.encoder)
    # Questions come twice, all other texts of a language once.
    pooled = RememberingEncoder(encoder)
    options, without = RunOptions(), RunOptions(bootstrap=0)
    output = arguments.output or RESULTS / "languages.json"
    numbers: dict[str, Any] = {"encoder": encoder.fingerprint.name}
    if arguments.add:
        numbers |= kept(output, encoder.fingerprint.digest)
    if arguments.lareqa:
        numbers["lareqa"] = evaluate_pool(load_lareqa(arguments.lareqa), pooled, options=options).to_dict()
        print(f"LAReQA: {numbers['lareqa']['mean']}", flush=True)
    if arguments.mlqa:
        numbers["mlqa_pool"] = evaluate_pool(load_mlqa_pool(arguments.mlqa), pooled, options=options).to_dict()
        print(f"MLQA pool: {numbers['mlqa_pool']['mean']}", flush=True)
    if arguments.tatoeba:
        numbers["tatoeba"] = evaluate_tatoeba(load_tatoeba(arguments.tatoeba), encoder, options=without).to_dict()
        print(f"Tatoeba: {numbers['tatoeba']['mean']}", flush=True)
    if arguments.sib200:
        sentences = load_sib200(arguments.sib200, split=Sib200Split(arguments.sib200_split))
        numbers["sib200"] = evaluate_sib200(sentences, encoder, options=without).to_dict()
        print(f"SIB-200: {numbers['sib200']['mean']}, median {numbers['sib200']['median']}", flush=True)
    print(write_result("languages", numbers, output))


def kept(path: Path, digest: str) -> dict[str, Any]:
    """The parts of an earlier result that are of the encoder with this digest."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {part: found[part] for part in PARTS if part in found and found[part]["encoder"]["digest"] == digest}


if __name__ == "__main__":
    main()
