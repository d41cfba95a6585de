"""The encoder that is trained: any Hugging Face encoder's body, and token embeddings updated only where they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class EmbeddingTable:
    """Token embeddings outside the graph: a batch takes out the rows it uses, and only these are updated.

    Dense Adam moves all rows of a large vocabulary at each step, which costs more than the body of a small model. This
    is lazy Adam: moments and bias corrections are those of each row's own updates.

    Args:
        rows: (vocabulary, dim) float32.
        pad: the row that is never updated.
    """

    def __init__(self, rows: Tensor, pad: int) -> None:
        self.rows = rows.detach().float()
        self._pad = pad
        self.first = torch.zeros_like(self.rows)
        self.second = torch.zeros_like(self.rows)
        self.updates = torch.zeros(len(rows), dtype=torch.float32, device=rows.device)

    def take(self, *ids: Tensor) -> TakenRows:
        """The rows that some batches of token ids use, as a leaf of the graph."""
        used, places = torch.unique(torch.cat([part.reshape(-1) for part in ids]), return_inverse=True)
        leaf = self.rows[used].requires_grad_(True)
        split = torch.split(places, [part.numel() for part in ids])
        return TakenRows(used, leaf, tuple(place.view(part.shape) for place, part in zip(split, ids, strict=True)))

    @torch.no_grad()
    def step(self, used: Tensor, gradient: Tensor, rate: float) -> None:
        """One Adam update of the rows ``used``, (n,), by their gradients, (n, dim)."""
        keep = used != self._pad
        used, gradient = used[keep], gradient[keep].float()
        self.updates[used] += 1
        count = self.updates[used, None]
        first = self.first[used].lerp_(gradient, 1 - BETA_1)
        second = self.second[used].mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
        self.first[used] = first
        self.second[used] = second
        scale = (second / (1 - BETA_2**count)).sqrt_().add_(EPSILON)
        self.rows[used] -= rate * (first / (1 - BETA_1**count)) / scale

    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint must hold."""
        return {"rows": self.rows, "first": self.first, "second": self.second, "updates": self.updates}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over what :meth:`state` gave."""
        for name, value in self.state().items():
            value.copy_(state[name])


@dataclass(slots=True)
class TakenRows:
    """Embedding rows of a step.

    Attributes:
        used: (n,) int64, their ids.
        leaf: (n, dim) float32, with a gradient after the backward pass.
        places: for each batch of ids the places of its tokens in ``leaf``.
    """

    used: Tensor
    leaf: Tensor
    places: tuple[Tensor, ...]


class Student(nn.Module):
    """Unit vectors of token ids: the body of an encoder, pooling, and L2 normalisation.

    Args:
        body: a transformers encoder that takes ``inputs_embeds``, or None for a static encoder.
        table: the token embeddings.
        pooling: ``mean`` over real tokens, or ``cls``.
    """

    def __init__(self, body: Any | None, table: EmbeddingTable, pooling: str) -> None:
        super().__init__()
        self.body = body
        self.table = table
        self._pooling = pooling

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return int(self.table.rows.shape[1]) if self.body is None else int(self.body.config.hidden_size)

    def token_states(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """(n, tokens, dim): the last layer's states of embedded tokens, or these themselves in a static encoder."""
        if self.body is None:
            return embedded
        states: Tensor = self.body(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        return states

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """(n, dim) float32, rows L2-normalised.

        Args:
            embedded: (n, tokens, dim), rows of the table.
            mask: (n, tokens), 1 for real tokens.
        """
        states = self.token_states(embedded, mask).float()
        if self._pooling == "cls":
            pooled = states[:, 0]
        else:
            weight = mask[..., None].to(states.dtype)
            pooled = (states * weight).sum(1) / weight.sum(1).clamp_min(1)
        return nn.functional.normalize(pooled, dim=-1)

    @torch.no_grad()
    def encode(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors without a graph, (n, dim) float32."""
        device = self.table.rows.device
        tokens = torch.from_numpy(ids).to(device)
        vectors: NDArray[np.float32] = self(self.table.rows[tokens], torch.from_numpy(mask).to(device)).cpu().numpy()
        return vectors


def load_body(folder: Path, *, dropout: float) -> tuple[Any, Tensor]:
    """The body of a transformers encoder (an mT5 or T5 model gives its encoder), and its token embeddings."""
    from transformers import AutoConfig, AutoModel, MT5EncoderModel, T5EncoderModel

    config = AutoConfig.from_pretrained(folder)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout_rate"):
        if hasattr(config, name):
            setattr(config, name, dropout)
    kinds: dict[str, Any] = {"mt5": MT5EncoderModel, "t5": T5EncoderModel}
    loader = kinds.get(config.model_type, AutoModel)
    extra = {"add_pooling_layer": False} if config.model_type in ("bert", "xlm-roberta", "roberta") else {}
    body = loader.from_pretrained(folder, config=config, dtype=torch.float32, **extra)
    return body, body.get_input_embeddings().weight.detach().clone()
