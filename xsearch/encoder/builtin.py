"""The encoder that ships with xsearch: ONNX Runtime and tokenizers alone, no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.exported import (
    CONFIG_FILE,
    GRAPH_FILES,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    EncoderConfig,
    Precision,
)
from xsearch.encoder.fingerprint import Fingerprint
from xsearch.encoder.processor import available_processors, has_fast_int8
from xsearch.encoder.protocol import OnProgress, Vectors, unit_vectors
from xsearch.errors import ConfigError, EncoderError
from xsearch.text.passages import encodable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer

MINI_FOLDER = Path(__file__).parent / "mini"
# The environment variable that says which arithmetic the body has, whatever the processor.
BODY_VARIABLE = "XSEARCH_BODY"
# Tokens a batch. Measured on 2 cores with passages of 172 tokens on average: 256 stay in the cache; 1,024 take 1.15
# times as long a token, 2,048 take 1.35 times.
BATCH_TOKENS = 256
# Texts tokenised and sorted by length at a time; bounds memory.
CHUNK_TEXTS = 4096
TokenIds = list[int]


class BuiltinEncoder:
    """An encoder exported to ONNX (:mod:`xsearch.encoder.export`), run on the CPU.

    Several batches run at once, each on one thread: on few cores that is faster than several threads per batch. A batch
    holds texts of one length, so nothing is padded, and a text's vector does not depend on what it is encoded with.

    Args:
        folder: holds ``xsearch_encoder.json`` and the files that it names; the one in the package by default.
        threads: batches at once; by default the processors that this process may use.
        body: the arithmetic of the layers, of those that the folder has; by default what ``XSEARCH_BODY`` says, or else
            what this processor is faster with. Vectors of both are of one space: their cosine is 0.99 and more.

    Raises:
        EncoderNotFoundError: a file of the folder is missing.
        EncoderError: a file of the folder cannot be read, or it has no such body.
        ConfigError: ``XSEARCH_BODY`` names no arithmetic.
    """

    def __init__(
        self, folder: Path = MINI_FOLDER, *, threads: int | None = None, body: Precision | None = None
    ) -> None:
        self._folder = folder
        self._threads = threads or available_processors()
        self._config = EncoderConfig.read(folder)
        self.body = _chosen_body(folder, self._config.bodies, body or _body_by_environment())
        self.dim: int = self._config.dim
        self.max_tokens: int = self._config.max_tokens
        # These take the better part of a cold start, and none holds Python's lock for long.
        with ThreadPoolExecutor(3) as pool:
            weights = pool.submit(self._config.check_file, folder, WEIGHTS_FILE)
            session, tokenizer = pool.submit(self._load_session), pool.submit(self._load_tokenizer)
            weights.result()
            self._session: InferenceSession = session.result()
            self._tokenizer: Tokenizer = tokenizer.result()
        special = self._config.special
        self._before = [self._special(token) for token in special.before]
        self._after = [self._special(token) for token in special.after]
        self._unknown = self._special(special.unknown)
        # What the prompt has by itself. In front of a text it may be a token less: its last space joins the text.
        prompt = self._tokenizer.encode(self._config.passage_prompt, add_special_tokens=False).ids
        self.overhead_tokens = len(self._before) + len(self._after) + len(prompt)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The identity of the weights and of all that shapes the vectors; the same for either body."""
        return Fingerprint(
            name="builtin" if self._folder == MINI_FOLDER else str(self._folder),
            weights=self._config.weights_digest,
            tokenizer=self._config.sha256[TOKENIZER_FILE],
            pooling="mean",
            query_prompt=self._config.query_prompt,
            passage_prompt=self._config.passage_prompt,
            max_tokens=self.max_tokens,
            dim=self.dim,
            dtype=self._config.dtype,
            step=str(self._config.step.get("digest", "")),
        )

    def encode_queries(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``."""
        return self._encode(texts, self._config.query_prompt, "query_vectors", on_progress)

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``."""
        return self._encode(texts, self._config.passage_prompt, "passage_vectors", on_progress)

    def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        """For each passage its token vectors, ``(tokens, token_dim) float32``, special tokens and prompt left out.

        They come from the body, and so may have more dimensions than the vector of a text, behind which a step lies.
        """
        encodings = self._prompted(texts)
        ids = [self._row(encoding) for encoding in encodings]
        skips = [len(self._before) + self._prompt_tokens(encoding) for encoding in encodings]
        vectors: list[Vectors] = [np.empty((0, self._config.token_dim), dtype=np.float32)] * len(ids)
        batches = list(_batches([len(row) for row in ids]))
        with ThreadPoolExecutor(self._threads) as pool:
            run = partial(self._run_places, ids, "token_vectors")
            for places, output in zip(batches, pool.map(run, batches), strict=True):
                for row, place in enumerate(places):
                    vectors[place] = output[row, skips[place] : len(ids[place]) - len(self._after)].copy()
        return vectors

    def token_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each text the character span of every token, as a passage is read; nothing is cut."""
        length = len(self._config.passage_prompt)
        return [
            [(max(0, start - length), end - length) for start, end in encoding.offsets[self._prompt_tokens(encoding) :]]
            for encoding in self._prompted(texts)
        ]

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

    def _encode(self, texts: Sequence[str], prompt: str, door: str, on_progress: OnProgress | None) -> Vectors:
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        with ThreadPoolExecutor(self._threads) as pool:
            for start in range(0, len(texts), CHUNK_TEXTS):
                chunk = [prompt + encodable(text) for text in texts[start : start + CHUNK_TEXTS]]
                ids = [
                    self._row(encoding)
                    for encoding in self._tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
                ]
                batches = list(_batches([len(row) for row in ids]))
                run = partial(self._run_places, ids, door)
                # A single query is not worth the start of a thread.
                pending = map(run, batches) if len(batches) == 1 else pool.map(run, batches)
                for places, output in zip(batches, pending, strict=True):
                    vectors[start + places] = output
                    if on_progress is not None:
                        on_progress(len(places))
        return unit_vectors(vectors)

    def _run_places(self, ids: Sequence[TokenIds], output: str, places: NDArray[np.intp]) -> Vectors:
        rows = np.array([ids[place] for place in places], dtype=np.int64)
        result: Vectors = self._session.run([output], {"input_ids": rows})[0]
        return result

    def _row(self, encoding: Encoding) -> TokenIds:
        room = self.max_tokens - len(self._before) - len(self._after)
        return [*self._before, *encoding.ids[:room], *self._after]

    def _prompted(self, texts: Sequence[str]) -> list[Encoding]:
        """The passages with their prompt, cut into tokens together: by itself a prompt may have other tokens."""
        chunk = [self._config.passage_prompt + encodable(text) for text in texts]
        encodings: list[Encoding] = self._tokenizer.encode_batch(chunk, add_special_tokens=False)
        return encodings

    def _prompt_tokens(self, encoding: Encoding) -> int:
        """How many tokens at the beginning are the passage prompt's alone."""
        length = len(self._config.passage_prompt)
        if not length:
            return 0
        return next((place for place, (_, end) in enumerate(encoding.offsets) if end > length), len(encoding.offsets))

    def _special(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise EncoderError(
                f"The tokenizer in {self._folder} has no token {token}",
                f"It must have those that {CONFIG_FILE} names as special_tokens",
                "Export the encoder again",
            )
        return int(number)

    def _load_session(self) -> InferenceSession:
        import onnxruntime

        path = self._config.check_file(self._folder, GRAPH_FILES[self.body])
        options = onnxruntime.SessionOptions()
        # One thread for a single query too: two take a fifth to a third off its time while nothing else runs, and add
        # as much as soon as another process does (12 to 60 tokens on 2 cores).
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # The graph is made of fused operators already; what is left to do is to work out its constants.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def _load_tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_buffer(self._config.read_file(self._folder, TOKENIZER_FILE))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def _body_by_environment() -> Precision | None:
    value = os.environ.get(BODY_VARIABLE, "")
    if not value:
        return None
    try:
        return Precision(value)
    except ValueError as exc:
        raise ConfigError(
            f"{BODY_VARIABLE} is {value!r}",
            f"It must be one of {', '.join(Precision)}",
            "Correct it, or unset it: the faster one is taken then",
        ) from exc


def _chosen_body(folder: Path, offered: Sequence[Precision], asked: Precision | None) -> Precision:
    if asked is None:
        faster = Precision.INT8 if has_fast_int8() else Precision.FLOAT32
        return faster if faster in offered else offered[0]
    if asked not in offered:
        raise EncoderError(
            f"A body of {asked} was asked for",
            f"The encoder in {folder} has {' and '.join(offered)}",
            f"Unset {BODY_VARIABLE}, or export the encoder with an int8 body, which has both",
        )
    return asked


def _batches(lengths: Sequence[int]) -> Iterator[NDArray[np.intp]]:
    """Places of texts that go together: longest first, all of one length, up to ``BATCH_TOKENS`` tokens per batch."""
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    ends = [int(place) + 1 for place in np.flatnonzero(np.diff(sizes[order], append=0))]
    start = 0
    for end in ends:
        most = max(1, BATCH_TOKENS // int(sizes[order[start]]))
        yield from (order[place : min(place + most, end)] for place in range(start, end, most))
        start = end
