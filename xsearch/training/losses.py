"""Training losses as pure functions of torch tensors: contrastive, distillation, Matryoshka, masked language modelling.

All take ``(rows, dim)`` tensors, compute in float32 (float64 where given) even under autocast, and return a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from xsearch.errors import InvalidArgumentError


def contrastive(
    anchors: Tensor,
    positives: Tensor,
    *,
    temperature: float = 0.05,
    margin: float = 0.0,
    excluded: Tensor | None = None,
    symmetric: bool = True,
) -> Tensor:
    """The cross-lingual contrastive loss: InfoNCE with in-batch negatives, over both directions, as a scalar.

    With cos(i, j) = anchors[i] . positives[j], the temperature t, the margin g, N(i) the columns but i that are not
    excluded for i, and p(i) = exp((cos(i, i) - g) / t), the loss of one direction is the mean over i of

        -log( p(i) / (p(i) + sum over j in N(i) of exp(cos(i, j) / t)) )

    InfoNCE is van den Oord et al. 2018 (arXiv:1807.03748), the additive margin Yang et al. 2019 (arXiv:1902.08564),
    both directions LaBSE, Feng et al. 2020 (arXiv:2007.01852); where they add up the directions, this is their mean.

    Two rows with cosines [[1, 0], [0.5, 0.5]] at t = 1: forwards log(1 + e^-1) = 0.3133 and log 2 = 0.6931, backwards
    log(1 + e^-0.5) = 0.4741 twice; the loss is 0.4886.

    Args:
        anchors: (n, dim), rows L2-normalised.
        positives: (m, dim) with m >= n, rows L2-normalised. Row i belongs to anchor i; the rows from n on are extra
            negatives, which only the direction from anchors to positives sees.
        margin: what a positive must be ahead by, in cosine.
        excluded: (n, m) bool, True where column j must not be a negative of row i: a duplicate, a known translation, a
            near-twin, a paragraph that contains the other. The diagonal is never excluded. A row whose columns are all
            excluded adds a loss of 0 to the mean.
    """
    rows, columns = _check_rows(anchors, positives)
    if columns < rows:
        raise InvalidArgumentError(
            f"there are {rows} anchors and {columns} positives",
            "Every anchor needs its positive in the row of the same number",
            "Pass at least as many positives as anchors",
        )
    if not 0.0 < temperature < float("inf"):
        raise InvalidArgumentError(
            f"the temperature is {temperature}", "It must be a finite number above 0", "Pass e.g. temperature=0.05"
        )
    if not abs(margin) < float("inf"):
        raise InvalidArgumentError(
            f"the margin is {margin}", "It must be a finite cosine difference", "Pass e.g. margin=0.1, or 0 for none"
        )
    if excluded is not None and (excluded.dtype is not torch.bool or excluded.shape != (rows, columns)):
        raise InvalidArgumentError(
            f"excluded is {_shape(excluded)} of {excluded.dtype}",
            f"It must be ({rows}, {columns}) of torch.bool, a row an anchor and a column a positive",
            "Build it with same_group",
        )
    # Autocast would multiply in bf16, whose cosines are off by up to 0.004: 0.08 in a logit at temperature 0.05.
    with torch.autocast(anchors.device.type, enabled=False):
        logits = _full(anchors) @ _full(positives).T
        paired = torch.eye(rows, columns, dtype=torch.bool, device=logits.device)
        if margin:
            logits = logits - margin * paired
        logits = logits / temperature
        if excluded is not None:
            logits = logits.masked_fill(excluded & ~paired, float("-inf"))
        targets = torch.arange(rows, device=logits.device)
        forwards = functional.cross_entropy(logits, targets)
        if not symmetric:
            return forwards
        return (forwards + functional.cross_entropy(logits[:, :rows].T, targets)) / 2


def question_passage(
    questions: Tensor,
    passages: Tensor,
    negatives: Tensor | None = None,
    *,
    temperature: float = 0.05,
    excluded: Tensor | None = None,
    symmetric: bool = False,
) -> Tensor:
    """InfoNCE of questions against the batch's passages and hard negatives (DPR, Karpukhin et al. 2020), as a scalar.

    ``contrastive`` with the hard negatives as its extra columns, without a margin and, unless asked for, only from
    question to passage: a passage has many questions, so the other direction is the weaker signal.

    Args:
        questions: (n, dim), rows L2-normalised.
        passages: (n, dim), rows L2-normalised; row i answers question i.
        negatives: (k, dim), rows L2-normalised: passages near the questions that answer none of them, seen by every
            question. Where one does answer a question, exclude it.
        excluded: (n, n + k) bool, as in ``contrastive``; the hard negatives are the last k columns.
    """
    if passages.shape != questions.shape:
        raise InvalidArgumentError(
            f"questions are {_shape(questions)} and passages {_shape(passages)}",
            "Both must be (n, dim), row i of the passages answering question i",
            "Pass one passage a question, and all others as negatives",
        )
    columns = passages
    if negatives is not None:
        if negatives.dim() != 2 or negatives.shape[1] != passages.shape[-1]:
            raise InvalidArgumentError(
                f"negatives are {_shape(negatives)}",
                f"They must be (k, {passages.shape[-1]}), as wide as the passages",
                "Encode them with the encoder of the passages",
            )
        columns = torch.cat([passages, negatives.to(passages.dtype)])
    return contrastive(questions, columns, temperature=temperature, excluded=excluded, symmetric=symmetric)


def mse_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference of student and teacher vectors over rows and dimensions, as a scalar.

    Reimers & Gurevych 2020 (arXiv:2004.09813): a sentence and its translation both come to lie where the teacher puts
    the English one. For [[1, 0]] against [[0, 1]]: (1 + 1) / 2 = 1. No gradient flows into the teacher.

    Args:
        student: (n, dim).
        teacher: (n, dim).
    """
    _check_same(student, teacher)
    return functional.mse_loss(_full(student), _full(teacher).detach())


def cosine_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over rows of 1 - cos(student, teacher), as a scalar.

    For unit rows it is dim / 2 times ``mse_distillation``, and so does not shrink as vectors get wider. For [[1, 0],
    [0, 1]] against [[1, 0], [0.6, 0.8]]: (0 + 0.2) / 2 = 0.1. No gradient flows into the teacher.

    Args:
        student: (n, dim), of any length.
        teacher: (n, dim), of any length.
    """
    _check_same(student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        return (1.0 - functional.cosine_similarity(_full(student), _full(teacher).detach(), dim=1)).mean()


def contrastive_distillation(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 0.05,
    excluded: Tensor | None = None,
    symmetric: bool = True,
) -> Tensor:
    """InfoNCE of student rows against the batch's fixed teacher rows, as a scalar: ``contrastive`` without a margin.

    Unlike ``cosine_distillation`` it also pushes a student away from where the teacher put the other sentences.

    Args:
        student: (n, dim), rows L2-normalised.
        teacher: (m, dim) with m >= n, rows L2-normalised; row i is the target of student row i. It gets no gradient.
        excluded: (n, m) bool, as in ``contrastive``.
    """
    return contrastive(student, teacher.detach(), temperature=temperature, excluded=excluded, symmetric=symmetric)


def matryoshka(
    loss: Callable[..., Tensor],
    vectors: Sequence[Tensor],
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
) -> Tensor:
    """The weighted mean of a loss over prefixes of the vectors, each cut to its first d dimensions and made unit again.

    Kusupati et al. 2022 (arXiv:2205.13147): vectors so trained can be cut short and still serve.
    matryoshka(L, (a, b), [4, 2], [3, 1]) = (3 L(a, b) + L(a[:, :2] / norm, b[:, :2] / norm)) / 4.

    Args:
        loss: takes as many tensors as ``vectors`` holds and returns a scalar; bind its other arguments before.
        vectors: each (rows, dim) with one dim for all.
        dims: how many dimensions to keep, each from 1 to dim.
        weights: one a dim, none negative and not all 0; equal ones by default.
    """
    if not vectors or any(each.dim() != 2 or each.shape[1] != vectors[0].shape[1] for each in vectors):
        raise InvalidArgumentError(
            f"vectors are {', '.join(_shape(each) for each in vectors) or 'none'}",
            "Each must be (rows, dim), all of one dim",
            "Pass e.g. (anchors, positives)",
        )
    dim = vectors[0].shape[1]
    if not dims or any(not 1 <= kept <= dim for kept in dims):
        raise InvalidArgumentError(
            f"the dims are {list(dims)}",
            f"There must be one at least, each from 1 to the vectors' {dim}",
            f"Pass e.g. dims=[{dim}, {max(dim // 2, 1)}]",
        )
    shares = [1.0] * len(dims) if weights is None else [float(weight) for weight in weights]
    if len(shares) != len(dims) or any(not 0.0 <= share < float("inf") for share in shares) or not sum(shares):
        raise InvalidArgumentError(
            f"the weights are {shares} for {len(dims)} dims",
            "There must be one a dim, none negative and not all 0",
            "Pass as many weights as dims, or none for equal ones",
        )
    parts = [
        share * loss(*(functional.normalize(_full(each[:, :kept]), dim=1) for each in vectors))
        for kept, share in zip(dims, shares, strict=True)
        if share
    ]
    return torch.stack(parts).sum() / sum(shares)


def masked_language(logits: Tensor, labels: Tensor, *, ignore: int = -100) -> Tensor:
    """The mean cross entropy of the masked positions, as a scalar; 0 where none is masked.

    Devlin et al. 2019 (arXiv:1810.04805). Translation language modelling (Conneau & Lample 2019, arXiv:1901.07291) is
    the same loss on a sentence and its translation in one row; see ``masking``. Equal logits over V tokens give log V.

    Args:
        logits: (..., vocabulary).
        labels: (...) integers: the token that was there, or ``ignore`` where nothing was masked.
    """
    if logits.dim() < 1 or logits.shape[:-1] != labels.shape or labels.is_floating_point():
        raise InvalidArgumentError(
            f"logits are {_shape(logits)} and labels {_shape(labels)} of {labels.dtype}",
            "Labels must be integers of the shape of the logits without the vocabulary",
            "Pass one label a position",
        )
    masked = labels != ignore
    # The masked rows alone go to float32: all positions of a 250 000-token vocabulary would be 7 times the memory.
    chosen, wanted = _full(logits[masked]), labels[masked].long()
    if wanted.numel() == 0:
        return chosen.sum()
    if int(wanted.min()) < 0 or int(wanted.max()) >= logits.shape[-1]:
        raise InvalidArgumentError(
            f"labels run from {int(wanted.min())} to {int(wanted.max())}",
            f"They must be below the vocabulary's {logits.shape[-1]}, or {ignore} where nothing was masked",
            "Use the tokenizer of the model",
        )
    return functional.cross_entropy(chosen, wanted)


def same_group(left: Tensor, right: Tensor) -> Tensor:
    """(n, m) bool: True where row i of ``left`` and row j of ``right`` share a group id in any column.

    The mask ``excluded`` of ``contrastive``, built from e.g. one column with the sentence's id, one with the id of the
    cluster of near-twins, and some with the paragraphs that contain it. Ids of all columns are of one name space.

    Args:
        left: (n, g) integers; negative ids are padding and match nothing.
        right: (m, h) integers, likewise.
    """
    for side in (left, right):
        if side.dim() != 2 or side.is_floating_point() or side.is_complex():
            raise InvalidArgumentError(
                f"the group ids are {_shape(side)} of {side.dtype}",
                "They must be integers of two dimensions, a row a text and a column an id",
                "Pad rows of fewer ids with -1",
            )
    shared = torch.zeros(left.shape[0], right.shape[0], dtype=torch.bool, device=left.device)
    for mine in left.unbind(1):
        for other in right.unbind(1):
            shared |= (mine[:, None] == other[None, :]) & (mine >= 0)[:, None]
    return shared


def _full(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 where it is so already."""
    return tensor if tensor.dtype is torch.float64 else tensor.float()


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(str(size) for size in tensor.shape)})"


def _check_rows(left: Tensor, right: Tensor) -> tuple[int, int]:
    """The numbers of rows of two tensors of one width; an error where they are no such thing or hold no row."""
    if left.dim() != 2 or right.dim() != 2 or left.shape[1] != right.shape[1] or 0 in left.shape:
        raise InvalidArgumentError(
            f"the vectors are {_shape(left)} and {_shape(right)}",
            "Both must be (rows, dim) of one dim, with a row at least",
            "Encode both sides with encoders of one dim, and pass no empty batch",
        )
    return left.shape[0], right.shape[0]


def _check_same(student: Tensor, teacher: Tensor) -> None:
    rows, targets = _check_rows(student, teacher)
    if rows != targets:
        raise InvalidArgumentError(
            f"there are {rows} student rows and {targets} teacher rows",
            "Every student row needs the teacher's vector in the row of the same number",
            "Pass as many teacher rows as student rows",
        )
