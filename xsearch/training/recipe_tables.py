"""The tables of a recipe, one dataclass each, with the meaning of every key and its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from xsearch.encoder.debias import CENTRE, DebiasMethod


class BaseKind(StrEnum):
    """What the encoder starts from."""

    TRANSFORMER = "transformer"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class BaseModel:
    """``[base]``: the model that is trained.

    Attributes:
        model: a sentence-transformers or Hugging Face encoder by name or folder, or ``package:NAME/FOLDER`` for a
            folder inside an installed Python package.
        kind: ``static`` starts from token embeddings alone (with the tokenizer of ``model``, or a new vocabulary).
        dim: of the vectors of a static encoder; a transformer has its own.
        max_tokens: what the trained encoder reads of a text, special tokens included.
        pooling: ``mean`` or ``cls``, for a model whose folder does not say.
        prompts: whether texts are read behind the base's own prompts ("query: "), which the trained encoder keeps.
    """

    model: str
    kind: BaseKind = BaseKind.TRANSFORMER
    dim: int = 384
    max_tokens: int = 256
    pooling: str = "mean"
    prompts: bool = True


@dataclass(frozen=True, slots=True)
class VocabularyTable:
    """``[vocabulary]``: a new multilingual vocabulary for an English base; without any such table it keeps its own.

    Attributes:
        size: pieces in all.
        candidates: pieces of other languages that are looked at, of which the most used fill ``size``.
        characters: of text a unit of language weight that the pieces are trained on.
        min_character_count: a character seen less often becomes unknown.
        alignment_rows: sentences a unit of language weight that the word alignment reads, and as many terms.
        transplant: whether embeddings come from the alignment; else new pieces start at random.
        min_probability: translations less likely than this do not count.
    """

    size: int = 62_000
    candidates: int = 80_000
    characters: int = 400_000
    min_character_count: int = 3
    alignment_rows: int = 8_000
    transplant: bool = True
    min_probability: float = 0.02


class Keep(StrEnum):
    """Which pieces of the base's vocabulary stay, where no number of them is named."""

    ALL = "all"


@dataclass(frozen=True, slots=True)
class CutTable:
    """``[vocabulary]`` with ``cut`` or ``keep``: the base's own vocabulary, less the pieces that the data uses least.

    A piece is wanted by the sum over languages of ``data.languages``'s weight x sqrt(relative frequency).

    Attributes:
        cut: pieces that are kept, special tokens included.
        keep: ``all``, in the place of ``cut``.
        texts: patterns of plain text beside the other data, a text a line, named NAME.LANG.txt (or .txt.zst, .txt.gz).
        prior: weight of the base's own scores (Unigram), as if they were a language: they stand for all those without
            data. With a weight, the letters of all alphabets are kept. 0 leaves them out.
        unseen_scripts: weight of each script that no language of the data is written in, by the same scores; with a
            weight all its single characters are kept too. 0 leaves them out.
    """

    cut: int | None = None
    keep: Keep | None = None
    texts: tuple[str, ...] = ()
    prior: float = 0.0
    unseen_scripts: float = 0.0


@dataclass(frozen=True, slots=True)
class DataTable:
    """``[data]``: the files, and how much of each language is taken.

    Attributes:
        folder: what the patterns start from; relative to the recipe. A pattern may also be an absolute path, or
            ``NAME.LANG-LANG`` for the two files of Moses pairs.
        parallel: patterns of parallel files (sentences, paragraphs).
        terms: patterns of parallel files that hold words and names.
        questions: patterns of question files (question, passage, answers).
        evaluation: files that no training text may overlap.
        languages: weight of each target language; ``default_weight`` for those not named, 0 leaves one out.
        sources: weight of each source within its language; 1 where not named, 0 leaves one out.
        sentences, term_pairs, passages: examples a unit of language weight.
        english: sentences in English that are their own translation, in all.
        passage_words: rows that follow one another are joined to passages of about this many English words.
    """

    folder: str = "."
    parallel: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ()
    languages: Mapping[str, float] = field(default_factory=dict)
    default_weight: float = 1.0
    sources: Mapping[str, float] = field(default_factory=dict)
    sentences: int = 3_000
    term_pairs: int = 2_000
    passages: int = 300
    english: int = 20_000
    passage_words: int = 130


@dataclass(frozen=True, slots=True)
class TeacherTable:
    """``[teacher]``: whose vectors of the English side the student learns; without this table there is no distillation.

    Attributes:
        model: as in ``[base]``.
        int8: encodes with the int8 graph of ONNX Runtime (BERT only): 2 to 3 times as fast on a CPU.
    """

    model: str
    int8: bool = False


@dataclass(frozen=True, slots=True)
class BatchTable:
    """``[batches]``: what is in a batch.

    Attributes:
        tokens: of the student's texts in a batch, padding included; of a question and its passage the longer counts.
        texts: at most so many texts in a batch.
        chunk_tokens: encoded at once; a larger batch goes through gradient caching.
        terms, passages, questions, english: share of the batches that hold these; the rest holds sentences.
        mixed_languages: share of the batches that hold all languages instead of one.
        temperature: languages are drawn with probability proportional to weight ** temperature.
    """

    tokens: int = 2_048
    texts: int = 256
    chunk_tokens: int = 16_384
    terms: float = 0.125
    passages: float = 0.2
    questions: float = 0.1
    english: float = 0.08
    mixed_languages: float = 0.3
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class LossTable:
    """``[loss]``: weights of the terms of the loss; 0 leaves one out.

    Attributes:
        contrastive: InfoNCE of translation against translation, both through the student (English by the student too).
        distil_contrastive: InfoNCE of the student's vectors against the teacher's of the batch and of the bank.
        distil_cosine: 1 - cosine to the teacher's vector.
        distil_mse: squared error to the teacher's vector.
        question: InfoNCE of questions against passages.
        mlm, tlm: masked language modelling on one text, and on a text with its translation.
        temperature, margin: of the contrastive terms.
        bank: other teacher vectors that serve as negatives beside those of the batch.
        matryoshka: lengths that the contrastive terms are also computed at.
    """

    contrastive: float = 0.0
    distil_contrastive: float = 1.0
    distil_cosine: float = 5.0
    distil_mse: float = 0.0
    question: float = 1.0
    mlm: float = 0.0
    tlm: float = 0.0
    temperature: float = 0.05
    margin: float = 0.0
    bank: int = 1_024
    matryoshka: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class OptimizerTable:
    """``[optimizer]``: AdamW; the embeddings are updated only in rows that a batch used.

    Attributes:
        steps: updates in all; the rate falls linearly to 0 at the last. 0 trains nothing: the base is written, with
            its vocabulary cut where the recipe says so, exported and measured.
        rate, embedding_rate: highest learning rates of the body and of the token embeddings.
        warmup: steps of linear rise.
        weight_decay: of the body's matrices.
        max_norm: gradients of the body are scaled down to this norm.
        dropout: in the body.
        precision: ``float32`` or ``bfloat16`` (on a GPU that has it).
    """

    steps: int = 1_000
    rate: float = 2e-4
    embedding_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.01
    max_norm: float = 1.0
    dropout: float = 0.0
    precision: str = "float32"


@dataclass(frozen=True, slots=True)
class RunTable:
    """``[run]``: where a run keeps its work, and how often it saves and measures.

    Attributes:
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log.
        evaluate_every: steps between measurements on ``mlqa``; 0 measures at the end only.
        mlqa: the MLQA archive to measure on; nothing is measured without.
    """

    checkpoint_every: int = 250
    log_every: int = 25
    evaluate_every: int = 0
    mlqa: str = ""


@dataclass(frozen=True, slots=True)
class DebiasTable:
    """``[debias]``: the finished encoder is followed by a step that takes the language bias out of its vectors.

    Attributes:
        method, directions, strength, centre: as in :class:`xsearch.encoder.debias.DebiasOptions`.
        texts: sentences of each language at most, of ``data.parallel``; a language with fewer than ``min_texts`` is
            left out.
    """

    method: DebiasMethod = DebiasMethod.PROJECTION
    directions: int | None = None
    strength: float = 1.0
    centre: float = CENTRE
    texts: int = 2_000
    min_texts: int = 200
