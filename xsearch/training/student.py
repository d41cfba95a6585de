"""The encoder that is trained: any Hugging Face encoder's body, and token embeddings updated only where used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xsearch.encoder.hub import without_bars
from xsearch.errors import TrainingError

# Encoders whose positions begin after the padding token's id, which they take from their configuration.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert")
DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout_rate",
    "dropout",
    "attention_dropout",
)
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
        flat = [part.reshape(-1) for part in ids] or [torch.empty(0, dtype=torch.int64, device=self.rows.device)]
        used, places = torch.unique(torch.cat(flat), return_inverse=True)
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
        self.pooling = pooling

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return int(self.table.rows.shape[1]) if self.body is None else int(self.body.config.hidden_size)

    def token_states(
        self, embedded: Tensor, mask: Tensor, *, positions: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        """(n, tokens, dim): the last layer's states of embedded tokens, or these themselves in a static encoder.

        Args:
            positions, types: of the tokens, (n, tokens) int64; without them those of one text in a row.
        """
        if self.body is None:
            return embedded
        extra = {"position_ids": positions, "token_type_ids": types}
        given = {name: value for name, value in extra.items() if value is not None}
        states: Tensor = self.body(inputs_embeds=embedded, attention_mask=mask, **given).last_hidden_state
        return states

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """(n, dim) float32, rows L2-normalised.

        Args:
            embedded: (n, tokens, dim), rows of the table.
            mask: (n, tokens), 1 for real tokens.
        """
        states = self.token_states(embedded, mask).float()
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            weight = mask[..., None].to(states.dtype)
            pooled = (states * weight).sum(1) / weight.sum(1).clamp_min(1)
        return nn.functional.normalize(pooled, dim=-1)

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Takes over what ``state_dict`` gave.

        The body's own embeddings are not used, and stay as they are: earlier checkpoints hold all their rows.
        """
        own = self.state_dict()
        self.load_state_dict({name: own[name] if name in self._unused() else value for name, value in state.items()})

    def _unused(self) -> set[str]:
        if self.body is None:
            return set()
        unused = self.body.get_input_embeddings().weight
        named = self.body.named_parameters(remove_duplicate=False)
        return {f"body.{name}" for name, weight in named if weight is unused}

    @torch.no_grad()
    def encode(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors without a graph, (n, dim) float32."""
        device = self.table.rows.device
        tokens = torch.from_numpy(ids).to(device)
        vectors: NDArray[np.float32] = self(self.table.rows[tokens], torch.from_numpy(mask).to(device)).cpu().numpy()
        return vectors


def load_body(folder: Path, *, dropout: float) -> tuple[Any, Tensor]:
    """The body of a transformers encoder (an mT5 or T5 model gives its encoder), and its token embeddings.

    The body keeps one row in the place of the embeddings: the table has them, and the body is given vectors.
    """
    from transformers import AutoConfig, AutoModel, MT5EncoderModel, T5EncoderModel

    config = AutoConfig.from_pretrained(folder)
    for name in DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, dropout)
    kinds: dict[str, Any] = {"mt5": MT5EncoderModel, "t5": T5EncoderModel}
    loader = kinds.get(config.model_type, AutoModel)
    extra = {"add_pooling_layer": False} if config.model_type in ("bert", *OFFSET_POSITIONS) else {}
    with without_bars():
        body = loader.from_pretrained(folder, config=config, dtype=torch.float32, **extra)
    embeddings = body.get_input_embeddings().weight.detach().clone()
    body.set_input_embeddings(frozen(torch.zeros(1, embeddings.shape[1])))
    return body, embeddings


def frozen(rows: Tensor) -> nn.Embedding:
    """Embeddings that no optimizer moves."""
    embedding: nn.Embedding = nn.Embedding.from_pretrained(rows, freeze=True)  # type: ignore[no-untyped-call]
    return embedding


def first_position(body: Any) -> int:
    """The position of a row's first token: 0, but behind that of padding in RoBERTa and XLM-R."""
    return int(body.config.pad_token_id) + 1 if body.config.model_type in OFFSET_POSITIONS else 0


def check_body(body: Any, *, max_tokens: int, pad: int) -> None:
    """Refuses a body that cannot read as many tokens as the recipe says, or counts positions from another padding.

    Raises:
        TrainingError: one of the two.
    """
    first = first_position(body)
    # mT5 has relative positions, and no limit.
    positions = getattr(body.config, "max_position_embeddings", None)
    if positions is not None and max_tokens > int(positions) - first:
        raise TrainingError(
            f"base.max_tokens is {max_tokens}",
            f"The base has positions for {int(positions) - first} tokens",
            f"Set base.max_tokens to {int(positions) - first} or less",
        )
    if first and pad != first - 1:
        raise TrainingError(
            f"The padding token of the vocabulary has the id {pad}",
            f"A {body.config.model_type} model counts positions from that of its own, {first - 1}",
            "Keep the vocabulary of this base, or graft the new one on a BERT model",
        )
