"""The encoder that ships with xsearch: ONNX Runtime and tokenizers alone, no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.fingerprint import Fingerprint, hash_files
from xsearch.encoder.protocol import OnProgress, Vectors, unit_vectors
from xsearch.errors import EncoderError, EncoderNotFoundError
from xsearch.text.passages import encodable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

MINI_FOLDER = Path(__file__).parent / "mini"
CONFIG_FILE = "xsearch_encoder.json"
# Padded tokens a batch. Measured on 2 cores with passages of 172 tokens on average: 256 stay in the cache; 1,024 take
# 1.15 times as long a token, 2,048 take 1.35 times.
BATCH_TOKENS = 256
# Texts tokenised and sorted by length at a time; bounds memory.
CHUNK_TEXTS = 4096
TokenIds = list[int]


class BuiltinEncoder:
    """An encoder exported to ONNX (:mod:`xsearch.encoder.export`), run on the CPU.

    Several batches run at once, each on one thread: on few cores that is faster than several threads a batch.
    Texts are sorted by length, so little is padded, and a batch holds up to ``BATCH_TOKENS`` tokens.

    Args:
        folder: holds ``model.onnx``, ``tokenizer.json``, ``xsearch_encoder.json``; the one in the package by default.
        threads: batches at once; by default the processors that this process may use.

    Raises:
        EncoderNotFoundError: a file of the folder is missing.
        EncoderError: a file of the folder cannot be read.
    """

    def __init__(self, folder: Path = MINI_FOLDER, *, threads: int | None = None) -> None:
        self._folder = folder
        self._threads = threads or _available_processors()
        for name in ("model.onnx", "tokenizer.json", CONFIG_FILE):
            if not (folder / name).is_file():
                raise EncoderNotFoundError(
                    f"The encoder folder {folder} has no {name}",
                    "It must hold model.onnx, tokenizer.json and xsearch_encoder.json",
                    "Install xsearch again, or name another folder with --encoder",
                )
        try:
            self._config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            _check_config(self._config)
        except (ValueError, KeyError, TypeError) as exc:
            raise EncoderError(
                f"{folder / CONFIG_FILE} is not a valid encoder configuration: {exc!r}",
                "It must be JSON with dim, max_tokens, dtype, query_prompt, passage_prompt and sha256",
                "Export the encoder anew",
            ) from exc
        self.dim: int = self._config["dim"]
        self.max_tokens: int = self._config["max_tokens"]
        self._query_prompt: str = self._config["query_prompt"]
        self._passage_prompt: str = self._config["passage_prompt"]
        # These take the better part of a cold start, and none holds Python's lock for long.
        with ThreadPoolExecutor(2) as pool:
            session, tokenizer = pool.submit(self._load_session), pool.submit(self._load_tokenizer)
            self._session: InferenceSession = session.result()
            self._tokenizer: Tokenizer = tokenizer.result()
        self._first = self._special("[CLS]")
        self._last = self._special("[SEP]")
        self._unknown = self._special("[UNK]")
        self._query_prefix = self._prompt_ids(self._query_prompt)
        self._passage_prefix = self._prompt_ids(self._passage_prompt)
        self.overhead_tokens = 2 + len(self._passage_prefix)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The identity of the weights and of all that shapes the vectors."""
        return Fingerprint(
            name="builtin" if self._folder == MINI_FOLDER else str(self._folder),
            weights=self._config["sha256"]["model.onnx"],
            tokenizer=self._config["sha256"]["tokenizer.json"],
            pooling="mean",
            query_prompt=self._query_prompt,
            passage_prompt=self._passage_prompt,
            max_tokens=self.max_tokens,
            dim=self.dim,
            dtype=self._config["dtype"],
        )

    def encode_queries(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``."""
        return self._encode(texts, self._query_prefix, on_progress)

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``."""
        return self._encode(texts, self._passage_prefix, on_progress)

    def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        """For each passage its token vectors, ``(tokens, dim) float32``, special tokens and prompt left out."""
        ids = self._token_ids(texts, self._passage_prefix)
        vectors: list[Vectors] = [np.empty((0, self.dim), dtype=np.float32)] * len(ids)
        skip = 1 + len(self._passage_prefix)
        for places in _batches([len(row) for row in ids]):
            output = self._run([ids[place] for place in places], "token_vectors")
            for row, place in enumerate(places):
                vectors[place] = output[row, skip : len(ids[place]) - 1].copy()
        return vectors

    def token_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each text the character span of every token; nothing is cut."""
        encodings = self._tokenizer.encode_batch([encodable(text) for text in texts], add_special_tokens=False)
        return [encoding.offsets for encoding in encodings]

    def unknown_characters(self, texts: Sequence[str]) -> list[int]:
        """For each text how many of its characters stand in tokens that the vocabulary lacks."""
        encodings = self._tokenizer.encode_batch([encodable(text) for text in texts], add_special_tokens=False)
        return [
            sum(
                end - start
                for number, (start, end) in zip(row.ids, row.offsets, strict=True)
                if number == self._unknown
            )
            for row in encodings
        ]

    def _encode(self, texts: Sequence[str], prefix: TokenIds, on_progress: OnProgress | None) -> Vectors:
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        with ThreadPoolExecutor(self._threads) as pool:
            for start in range(0, len(texts), CHUNK_TEXTS):
                ids = self._token_ids(texts[start : start + CHUNK_TEXTS], prefix)
                batches = list(_batches([len(row) for row in ids]))
                run = partial(self._run_places, ids)
                # A single query is not worth the start of a thread.
                pending = map(run, batches) if len(batches) == 1 else pool.map(run, batches)
                for places, output in zip(batches, pending, strict=True):
                    vectors[start + places] = output
                    if on_progress is not None:
                        on_progress(len(places))
        return unit_vectors(vectors)

    def _run_places(self, ids: Sequence[TokenIds], places: NDArray[np.intp]) -> Vectors:
        return self._run([ids[place] for place in places], "sentence_vectors")

    def _run(self, ids: Sequence[TokenIds], output: str) -> Vectors:
        longest = max(len(row) for row in ids)
        padded = np.zeros((len(ids), longest), dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for place, row in enumerate(ids):
            padded[place, : len(row)] = row
            mask[place, : len(row)] = 1
        result: Vectors = self._session.run([output], {"input_ids": padded, "attention_mask": mask})[0]
        return result

    def _token_ids(self, texts: Sequence[str], prefix: TokenIds) -> list[TokenIds]:
        room = self.max_tokens - 2 - len(prefix)
        encodings = self._tokenizer.encode_batch_fast([encodable(text) for text in texts], add_special_tokens=False)
        return [[self._first, *prefix, *encoding.ids[:room], self._last] for encoding in encodings]

    def _prompt_ids(self, prompt: str) -> TokenIds:
        ids: TokenIds = self._tokenizer.encode(prompt, add_special_tokens=False).ids if prompt else []
        return ids

    def _special(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise EncoderError(
                f"The tokenizer in {self._folder} has no token {token}",
                "A BERT tokenizer has [CLS], [SEP] and [UNK]",
                "Export the encoder anew",
            )
        return int(number)

    def _load_session(self) -> InferenceSession:
        import onnxruntime

        path = self._checked("model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def _load_tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._checked("tokenizer.json")))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def _checked(self, name: str) -> Path:
        """The path of a file whose bytes are those that were exported; a damaged one could crash its parser."""
        path = self._folder / name
        found, expected = hash_files(path), self._config["sha256"][name]
        if found != expected:
            raise EncoderError(
                f"{path} is damaged: its SHA-256 is {found[:12]}..., not {expected[:12]}...",
                f"It must be the file that {CONFIG_FILE} beside it describes",
                "Install xsearch again, or export the encoder anew",
            )
        return path


def _check_config(config: Any) -> None:
    """Raises KeyError or TypeError where the configuration lacks something or has it in another type."""
    hashes = config["sha256"]
    texts = [config[key] for key in ("dtype", "query_prompt", "passage_prompt")]
    texts += [hashes[name] for name in ("model.onnx", "tokenizer.json")]
    numbers = [config[key] for key in ("dim", "max_tokens")]
    if not all(isinstance(text, str) for text in texts) or not all(type(n) is int and n > 0 for n in numbers):
        raise TypeError("a value is of another type than it must be")


def _batches(lengths: Sequence[int]) -> Iterator[NDArray[np.intp]]:
    """Places of texts that go together: longest first, up to ``BATCH_TOKENS`` padded tokens a batch."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        size = max(1, BATCH_TOKENS // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def _available_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
