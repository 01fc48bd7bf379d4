"""Recurrent text models: token ids (N, L) and lengths (N,) in, (N, K) logits out.

Rows are padded on the right. What stands there reaches no logit.
"""

import torch
from torch import Tensor, nn

from tune_adaptive.tasks.data import Description


class RecurrentClassifier(nn.Module):
    """Embedding, one LSTM layer (forwards, or both ways), one linear layer on its last state.

    The last state of a row is that of its last token, never of the padding. The backward
    layer reads each row from its last token to its first.
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        *,
        bidirectional: bool,
        embedding_dim: int = 128,
        hidden_dim: int = 128,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.forwards = nn.LSTM(embedding_dim, hidden_dim, batch_first=True)
        self.backwards = (
            nn.LSTM(embedding_dim, hidden_dim, batch_first=True) if bidirectional else None
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_dim * (1 + bidirectional), num_classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (N, K) of ``tokens`` (N, L), of which ``lengths`` (N,) count."""
        embedded = self.dropout(self.embedding(tokens))
        last = lengths.long() - 1
        states = [_at(self.forwards(embedded)[0], last)]
        if self.backwards is not None:
            place = torch.arange(tokens.shape[1], device=tokens.device)
            mirrored = (last[:, None] - place).clamp_(min=0)  # the padding stays behind
            reverse = embedded.gather(1, mirrored[:, :, None].expand_as(embedded))
            states.append(_at(self.backwards(reverse)[0], last))
        logits: Tensor = self.head(self.dropout(torch.cat(states, dim=1)))
        return logits


def _at(states: Tensor, position: Tensor) -> Tensor:
    """Return the state (N, H) of each row of (N, L, H) at its ``position`` (N,)."""
    return states.gather(1, position[:, None, None].expand(-1, 1, states.shape[2])).squeeze(1)


def lstm(data: Description) -> nn.Module:
    """Build a forward :class:`RecurrentClassifier`."""
    return RecurrentClassifier(data.vocab_size, data.num_classes, bidirectional=False)


def bilstm(data: Description) -> nn.Module:
    """Build a :class:`RecurrentClassifier` that reads both ways."""
    return RecurrentClassifier(data.vocab_size, data.num_classes, bidirectional=True)
