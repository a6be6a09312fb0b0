"""A text encoder small enough for an example: one learned vector per word. Saved beside its weights by prepare.py."""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn


class WordEncoder(ModelMixin, ConfigMixin):
    """Texts to ``[texts, tokens, features]``; words that it does not know are padding."""

    @register_to_config
    def __init__(self, words: list[str], tokens: int = 4, features: int = 16) -> None:
        super().__init__()
        self.table = nn.Embedding(len(words) + 1, features)

    def forward(self, texts: list[str]) -> torch.Tensor:
        """Encode."""
        known = {word: index + 1 for index, word in enumerate(self.config.words)}
        rows = [[known.get(word, 0) for word in text.split()][: self.config.tokens] for text in texts]
        return self.table(torch.tensor([row + [0] * (self.config.tokens - len(row)) for row in rows]))
