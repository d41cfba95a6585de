"""Gradient caching: the gradient of a loss over a batch that is too large to hold the graph of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from xsearch.errors import InvalidArgumentError

Chunk = TypeVar("Chunk")


def accumulate(
    encode: Callable[[Chunk], Tensor], sides: Sequence[Sequence[Chunk]], loss: Callable[..., Tensor]
) -> float:
    """The loss over a whole batch, whose gradient is added to the parameters as one backward pass would.

    GradCache, Gao et al. 2021 (arXiv:2101.06983). A contrastive loss needs the vectors of the whole batch but not their
    graphs: (1) encode each chunk without a graph; (2) compute the loss over all vectors and its gradient in them; (3)
    encode each chunk again, with a graph, and send its rows of that gradient back through it. Memory is that of one
    chunk's graph and of the vectors; time is one more forward pass, a third more than a batch that fits.

    Both passes of a chunk see the same random numbers (torch's, on the CPU and the current CUDA device), so dropout
    drops the same, and afterwards the generators stand as if each chunk had been encoded once. What else ``encode``
    changes it changes twice (e.g. the running means of a BatchNorm).

    Across processes, call this under ``no_sync`` and add up the gradients afterwards: it goes backwards chunk by chunk.

    Args:
        encode: a chunk to its vectors, (rows, ...), the same ones each time, with a gradient. What is fixed, like a
            teacher's vectors, is no side: bind it in ``loss``.
        sides: for each side (e.g. anchors, positives, hard negatives) its chunks, in the order of the rows.
        loss: takes one tensor a side, the rows of its chunks one after the other, and returns a scalar. Parameters of
            its own (e.g. a learned temperature) get their gradient as well.
    """
    if not sides or not all(sides):
        raise InvalidArgumentError(
            f"the numbers of chunks are {[len(side) for side in sides]}",
            "There must be a side, and a chunk in each",
            "Pass e.g. [anchor_chunks, positive_chunks]",
        )
    states: list[list[_RandomState]] = []
    parts: list[list[Tensor]] = []
    with torch.no_grad():
        for side in sides:
            states.append([])
            parts.append([])
            for chunk in side:
                states[-1].append(_random_state())
                parts[-1].append(encode(chunk))
    sizes = [[len(part) for part in side] for side in parts]
    vectors = [torch.cat(side).detach().requires_grad_() for side in parts]
    del parts
    # Under an autocast around us, torch before its pull request 165068 (2025) would use the weights that it cast in the
    # first pass, which carry no gradient, in the second as well.
    torch.clear_autocast_cache()
    value = loss(*vectors)
    if value.dim() or not value.requires_grad:
        raise InvalidArgumentError(
            f"the loss is of shape {tuple(value.shape)} and {'has' if value.requires_grad else 'lacks'} a gradient",
            "It must be a scalar that depends on the vectors",
            "Pass a loss that neither detaches the vectors nor keeps one value a row",
        )
    value.backward()  # type: ignore[no-untyped-call]
    for side, side_states, side_sizes, side_vectors in zip(sides, states, sizes, vectors, strict=True):
        if side_vectors.grad is None:  # the loss does not look at this side
            continue
        gradients = torch.split(side_vectors.grad, side_sizes)
        for chunk, state, gradient in zip(side, side_states, gradients, strict=True):
            with state.restored():
                again = encode(chunk)
            if not again.requires_grad or again.shape != gradient.shape:
                raise InvalidArgumentError(
                    f"encode gave {tuple(again.shape)} {'with' if again.requires_grad else 'without'} a gradient",
                    f"It must give {tuple(gradient.shape)} as the first time, with a gradient",
                    "Encode without no_grad, and bind what is frozen in the loss",
                )
            again.backward(gradient)  # type: ignore[no-untyped-call]
    return float(value.detach())


@dataclass(frozen=True)
class _RandomState:
    """Where torch's generators stood: the CPU's, and the current CUDA device's where there is one in use."""

    cpu: Tensor
    cuda: dict[int, Tensor]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Within, random numbers are those that followed this state; after, those that would have come anyway."""
        with torch.random.fork_rng(devices=list(self.cuda)):
            torch.set_rng_state(self.cpu)
            for device, state in self.cuda.items():
                torch.cuda.set_rng_state(state, device)
            yield


def _random_state() -> _RandomState:
    cuda = {}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        device = torch.cuda.current_device()
        cuda[device] = torch.cuda.get_rng_state(device)
    return _RandomState(torch.get_rng_state(), cuda)
