"""Sentences as OneFormer reads them: tokens of CLIP's vocabulary, and a text transformer (Radford et al., 2103.00020).

Letters: N sentences; T tokens of a sentence: start of text, words, end of text, then zeros; C channels.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mask2former_ext.layers.transformer import Attention

logger = logging.getLogger(__name__)

START_OF_TEXT, END_OF_TEXT = 49406, 49407
# The words of "the task is {task}": a model that only answers needs no vocabulary.
_TASK_WORDS = {
    "semantic": (518, 10549, 533, 29119, 1550),
    "instance": (518, 10549, 533, 34572),
    "panoptic": (518, 10549, 533, 1072, 24755),
}
_HEAD_CHANNELS = 64  # of every CLIP text transformer


# -------------------------------------------------------------------------------------------------------------- tokens


def task_tokens(task: str, length: int) -> Tensor:
    """The sentence "the task is {task}" ("semantic", "instance" or "panoptic") in `length` tokens, int64 (T)."""
    return _in_length(_TASK_WORDS[task], length)[0]


def tokenize(sentences: Sequence[str], length: int) -> Tensor:
    """Sentences in `length` tokens each, int64 (N, T). One that is too long loses its last words, with one
    warning.

    Raises ImportError naming the extra if the vocabulary's package is not installed.
    """
    return torch.stack([_sentence_tokens(sentence, length) for sentence in sentences])


@functools.cache
def _sentence_tokens(sentence: str, length: int) -> Tensor:
    tokens, lost = _in_length(_vocabulary().encode(sentence), length)
    if lost:
        logger.warning("%r is %d tokens too long for a text of %d: its end is cut off", sentence, lost, length)
    return tokens


def _in_length(words: Sequence[int], length: int) -> tuple[Tensor, int]:
    """int64 (length) tokens, and how many words found no place."""
    if length < 2:
        raise ValueError(f"a text of {length} tokens has no place for the start and the end of text")
    kept = words[: length - 2]
    tokens = torch.zeros(length, dtype=torch.int64)
    tokens[: len(kept) + 2] = torch.tensor([START_OF_TEXT, *kept, END_OF_TEXT])
    return tokens, len(words) - len(kept)


@functools.cache
def _vocabulary() -> Any:
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise ImportError(
            "training OneFormer needs CLIP's vocabulary, which open_clip_torch brings: pip install -e '.[oneformer]'"
        ) from error
    return SimpleTokenizer()


# --------------------------------------------------------------------------------------------------------- transformer


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


class _Block(nn.Module):
    """Attention to the tokens before, then a feed-forward network; LayerNorm before each."""

    def __init__(self, width: int, num_blocks: int):
        super().__init__()
        self.attn = Attention(width, width // _HEAD_CHANNELS)
        self.ln_1 = nn.LayerNorm(width)
        wide, narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.ModuleDict({"c_fc": wide, "c_proj": narrow})
        self.ln_2 = nn.LayerNorm(width)
        # What is added to the residual stream is scaled down, so that its variance stays as blocks are stacked.
        added = width**-0.5 * (2 * num_blocks) ** -0.5
        nn.init.normal_(self.attn.in_proj_weight, std=width**-0.5)
        nn.init.normal_(self.attn.out_proj.weight, std=added)
        nn.init.normal_(wide.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(narrow.weight, std=added)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, before)
        return x + self.mlp["c_proj"](_quick_gelu(self.mlp["c_fc"](self.ln_2(x))))


class TextEncoder(nn.Module):
    """Tokens -> one embedding a sentence: that of its end, which alone has seen all of it."""

    def __init__(self, *, width: int, num_layers: int, context_length: int, vocab_size: int):
        """`context_length`: the most tokens of a sentence."""
        super().__init__()
        if width < _HEAD_CHANNELS or width % _HEAD_CHANNELS:
            raise ValueError(f"a text encoder's WIDTH must be a multiple of {_HEAD_CHANNELS}, got {width}")
        self.context_length = context_length
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        blocks = [_Block(width, num_layers) for _ in range(num_layers)]
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(blocks)})
        self.ln_final = nn.LayerNorm(width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 (N, T), T at most `context_length` -> (N, C)."""
        end = tokens.argmax(dim=1)  # the largest number of the vocabulary
        num_tokens = int(end.max()) + 1  # no token attends to what follows it
        tokens = tokens[:, :num_tokens]
        x = self.token_embedding(tokens) + self.positional_embedding[:num_tokens]
        before = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=tokens.device).tril()
        for block in self.transformer["resblocks"].children():
            x = block(x, before)
        return self.ln_final(x[torch.arange(len(x), device=x.device), end])
