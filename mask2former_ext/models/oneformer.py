"""OneFormer: one transformer to rule universal image segmentation (Jain et al., arXiv 2211.06220).

What it adds to Mask2Former: it reads the task as a sentence. The task's token is the last query, and the others start
from a small transformer over the per-pixel embeddings under that token (section 3.2). In training, one text for each
object says what the task wants of the image, and a contrastive loss draws the queries to the texts of their own image
(section 3.3). One model, trained once on all tasks, answers each of them.

Shapes: B images; Q queries; T tokens of the task's sentence; X text slots of an image, the rest of the Q are learned;
C hidden channels; h, w map size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from detectron2.config import CfgNode as CN
from detectron2.config import configurable
from detectron2.structures import ImageList
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former_ext.contract import TASKS, Request
from mask2former_ext.distributed import of_all_processes
from mask2former_ext.layers.pyramid import convolution
from mask2former_ext.layers.text_encoder import TextEncoder, task_tokens, tokenize
from mask2former_ext.layers.transformer import MLP, DecoderLayer, TransformerDecoder, sine_position_encoding, tokens_of
from mask2former_ext.losses import PointCriterion, Target
from mask2former_ext.models.image_model import name_of
from mask2former_ext.models.mask2former import Mask2Former, MaskedAttentionDecoder

MAX_LOGIT_SCALE = 100.0
# Modules of what the queries start from.
INITIAL_QUERIES = {"task_mlp", "class_input_proj", "class_transformer"}
# Of distinct queries, times the published start: the logits of their attention, and what they get by it.
DISTINCT_SHARPNESS, DISTINCT_GAIN = 16, 12


def add_oneformer_config(cfg: CN) -> None:
    """MODEL.ONEFORMER: the keys of MODEL.MASK2FORMER, which must be there already, and what OneFormer adds."""
    node = cfg.MODEL.ONEFORMER = cfg.MODEL.MASK2FORMER.clone()
    node.NUM_QUERIES = 150  # the task's token included
    node.QUERY_LAYERS = 2  # of the transformer that the queries start from
    node.QUERY_DROPOUT = 0.1  # of that transformer
    node.DISTINCT_QUERIES = False  # see `TaskConditionedDecoder.make_queries_distinct`
    node.TASK_CONTEXT_LENGTH = 77  # T
    node.CONTRASTIVE_WEIGHT = 0.5  # of the loss between queries and texts
    node.CONTRASTIVE_TEMPERATURE = 0.07  # at the start; learned

    text = node.TEXT_ENCODER = CN()
    # The text part, which only training needs. It is built, too, if MODEL.WEIGHTS hold it.
    text.ENABLED = True
    text.WIDTH = 256  # a multiple of 64
    text.NUM_LAYERS = 6  # of its transformer
    text.CONTEXT_LENGTH = 77  # tokens of a text; what is longer is cut
    text.VOCAB_SIZE = 49408  # of CLIP
    text.PROJ_NUM_LAYERS = 2  # of the MLP from a text to the queries' space
    text.NUM_CONTEXT = 16  # learned text embeddings; an image has NUM_QUERIES - NUM_CONTEXT texts


# ------------------------------------------------------------------------------------------------ transformer decoder


class TaskConditionedDecoder(MaskedAttentionDecoder):
    """Queries that start from what a transformer makes of the pixels and the task; the last one is the task itself."""

    def __init__(
        self, in_channels: int, *, query_layers: int, query_dropout: float, distinct_queries: bool, **options: Any
    ):
        """`options`: see `MaskedAttentionDecoder`; the transformer that the queries start from shares them."""
        super().__init__(in_channels, learned_queries=False, **options)
        hidden_dim = options["hidden_dim"]
        self.class_input_proj = convolution(options["mask_dim"], hidden_dim, kernel_size=1)
        layers = TransformerDecoder(
            hidden_dim,
            query_layers,
            num_heads=options["num_heads"],
            hidden=options["feedforward_dim"],
            dropout=query_dropout,
            pre_norm=options["pre_norm"],
        )
        self.class_transformer = nn.ModuleDict({"decoder": layers})
        if distinct_queries:
            self.make_queries_distinct()

    @torch.no_grad()
    def make_queries_distinct(self) -> None:
        """Change the untrained weights, so that each query of a task starts as a vector of its own, in every image.

        With the published ones all queries start as nearly the same vector, since they differ in nothing but where they
        attend, at first almost evenly. Here they attend sharply, to places that do not depend on the image yet, and
        their difference from the mean encoding is what they get.
        """
        nn.init.zeros_(self.class_input_proj.weight)
        nn.init.zeros_(self.class_input_proj.bias)
        mean_encoding = sine_position_encoding((32, 32), self.decoder_norm.normalized_shape[0]).mean(dim=(0, 2, 3))
        layers = [module for module in self.class_transformer.modules() if isinstance(module, DecoderLayer)]
        for attention in (layer.multihead_attn for layer in layers):
            query, key, value = attention.in_proj_weight.chunk(3)
            query *= DISTINCT_SHARPNESS**0.5
            key *= DISTINCT_SHARPNESS**0.5
            attention.in_proj_bias.chunk(3)[2].copy_(-(value @ mean_encoding))
            attention.out_proj.weight *= DISTINCT_GAIN

    def initial_queries(self, mask_features: Tensor, valid_fraction: Tensor | None, *condition: Tensor) -> Tensor:
        """(B, Q, C) from the per-pixel embeddings and the task (B, C)."""
        (task,) = condition
        task = self.decoder_norm(task)[:, None]
        pixels, encoding, allowed = tokens_of(self.class_input_proj(mask_features), valid_fraction)
        position = self.query_embed.weight[:-1].expand(len(task), -1, -1)
        # As published, the sine encoding is the memory and the pixels are its positions, not the other way round: what
        # a pixel looks like decides whether a query attends to it, and where it lies is what the query gets.
        *_, queries = self.class_transformer["decoder"](
            task.expand_as(position), position, encoding.expand_as(pixels), pixels, allowed
        )
        return torch.cat((queries, task), dim=1)


# --------------------------------------------------------------------------------------------------------------- loss


def contrastive_loss(queries: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Queries and texts of each image, (B, Q, C) both, to a scalar >= 0 (section 3.3, equations 1 to 3).

    Of all images of all processes, an image's queries are to be most like its own texts, and its texts like its own
    queries: the sum of the two mean cross entropies of cosine similarities x `scale`. Each process has B images.
    """
    queries, texts = (F.normalize(x.flatten(1), dim=-1) for x in (queries, texts))
    own = torch.arange(len(queries), device=queries.device) + comm.get_rank() * len(queries)
    to_texts, to_queries = queries @ of_all_processes(texts).T, texts @ of_all_processes(queries).T
    return F.cross_entropy(scale * to_texts, own) + F.cross_entropy(scale * to_queries, own)


class ContrastiveCriterion(PointCriterion):
    """Mask2Former's losses, and `loss_contrastive` of the queries before the first layer."""

    def __init__(self, num_classes: int, *, contrastive_weight: float, temperature: float, **options: Any):
        """`temperature`: at the start; its inverse is learned, up to MAX_LOGIT_SCALE."""
        super().__init__(num_classes, **options)
        if temperature <= 0:
            raise ValueError(f"MODEL.ONEFORMER.CONTRASTIVE_TEMPERATURE is {temperature}, but must be above 0")
        self.contrastive_weight = contrastive_weight
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, outputs: dict, targets: list[Target]) -> dict[str, Tensor]:
        """As in `SetCriterion`; `outputs` hold also "initial_queries" and "texts", (B, Q, C) both."""
        losses = super().forward(outputs, targets)
        with torch.autocast(outputs["texts"].device.type, enabled=False):
            loss = contrastive_loss(outputs["initial_queries"].float(), outputs["texts"].float(), self.scale())
        return {**losses, "loss_contrastive": self.contrastive_weight * loss}

    def scale(self) -> Tensor:
        """What cosine similarities are multiplied by, in (0, MAX_LOGIT_SCALE]."""
        return self.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)


# ----------------------------------------------------------------------------------------------------- the whole model


class OneFormer(Mask2Former):
    """Input and output as Mask2Former's, but for two more keys of an input.

    `task`: "semantic", "instance" or "panoptic", or a sentence that contains it, in any case. Whatever the task, all
    outputs that are switched on are given; the one that it names is the one that it is good for. In training also
    `text`: a list of X = NUM_QUERIES - NUM_CONTEXT strings (see `mask2former_ext.data.targets.texts.object_texts`).
    """

    reads_task = True
    section = "ONEFORMER"

    @classmethod
    def texts_per_image(cls, cfg: CN) -> int:
        """The queries less those that are compared with learned texts."""
        return cfg.MODEL.ONEFORMER.NUM_QUERIES - cfg.MODEL.ONEFORMER.TEXT_ENCODER.NUM_CONTEXT

    @classmethod
    def learning_rate_factor(cls, name: str, cfg: CN) -> float:
        """SOLVER.INITIAL_QUERIES_MULTIPLIER of what the queries start from."""
        if INITIAL_QUERIES.intersection(name.split(".")) and "backbone" not in name.split("."):
            return cfg.SOLVER.INITIAL_QUERIES_MULTIPLIER
        return super().learning_rate_factor(name, cfg)

    @classmethod
    def config_for_weights(cls, cfg: CN, names: Callable[[], Iterable[str]]) -> CN:
        """With the text part, if the weights hold one."""
        if cfg.MODEL.ONEFORMER.TEXT_ENCODER.ENABLED or not any(name.startswith("text_encoder.") for name in names()):
            return cfg
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.ONEFORMER.TEXT_ENCODER.ENABLED = True
        return cfg

    @configurable
    def __init__(
        self,
        *,
        task_mlp: MLP,
        task_context_length: int,
        text_encoder: TextEncoder | None,
        text_projector: MLP | None,
        prompt_ctx: nn.Embedding | None,
        num_texts: int,
        **parts: Any,
    ):
        """`text_encoder`, `text_projector` and `prompt_ctx` are all there, or none is: then the model cannot train."""
        super().__init__(**parts)
        self.task_mlp = task_mlp
        self.text_encoder = text_encoder
        self.text_projector = text_projector
        self.prompt_ctx = prompt_ctx
        self.num_texts = num_texts
        tokens = torch.stack([task_tokens(task, task_context_length) for task in TASKS])
        self.task_tokens: Tensor  # (3, T)
        self.register_buffer("task_tokens", tokens.float(), persistent=False)

    @classmethod
    def build_decoder(cls, node: CN, **options: Any) -> TaskConditionedDecoder:
        return TaskConditionedDecoder(
            query_layers=node.QUERY_LAYERS,
            query_dropout=node.QUERY_DROPOUT,
            distinct_queries=node.DISTINCT_QUERIES,
            **options,
        )

    @classmethod
    def build_criterion(cls, node: CN, **options: Any) -> ContrastiveCriterion:
        return ContrastiveCriterion(
            contrastive_weight=node.CONTRASTIVE_WEIGHT, temperature=node.CONTRASTIVE_TEMPERATURE, **options
        )

    @classmethod
    def from_config(cls, cfg: CN) -> dict:
        node = cfg.MODEL.ONEFORMER
        text = node.TEXT_ENCODER
        num_texts = cls.texts_per_image(cfg)
        if num_texts < 1:
            raise ValueError(
                f"MODEL.ONEFORMER.NUM_QUERIES is {node.NUM_QUERIES}, but must exceed TEXT_ENCODER.NUM_CONTEXT "
                f"{text.NUM_CONTEXT}: the texts of an image are as many as the difference"
            )
        return {
            **super().from_config(cfg),
            "task_mlp": MLP(node.TASK_CONTEXT_LENGTH, node.HIDDEN_DIM, node.HIDDEN_DIM, 2),
            "task_context_length": node.TASK_CONTEXT_LENGTH,
            **(_text_parts(text, node.HIDDEN_DIM) if text.ENABLED else _NO_TEXT_PARTS),
            "num_texts": num_texts,
        }

    def infer_batch(self, batched_inputs: list[dict], images: ImageList, request: Request) -> list[dict]:
        """Each of the request's tasks under its own sentence; what does not depend on the task is computed once."""
        if request.tasks is None:
            return super().infer_batch(batched_inputs, images, request)
        head: Any = self.sem_seg_head
        mask_features, memory = head.pixel_decoder(self.backbone(images.tensor))
        results: list[dict] = [{} for _ in batched_inputs]
        for task in request.tasks:
            condition = self.condition([{**x, "task": task} for x in batched_inputs])
            outputs = head.predictor(memory, mask_features, None, *condition)
            alone = replace(request, tasks=(task,))
            for position, (result, x) in enumerate(zip(results, batched_inputs, strict=True)):
                result.update(self.postprocess(outputs, position, images, x, alone))
        return results

    def condition(self, batched_inputs: list[dict]) -> tuple[Tensor, ...]:
        """The tasks' tokens (B, C)."""
        tasks = [TASKS.index(_task(x, index)) for index, x in enumerate(batched_inputs)]
        # Numbers of tokens are too large for half precision, which would make neighbors one.
        with torch.autocast(self.device.type, enabled=False):
            return (self.task_mlp(self.task_tokens[tasks]),)

    def losses(
        self,
        outputs: dict,
        batched_inputs: list[dict],
        images: ImageList,
        valid_sizes: list[tuple[int, int]] | None,
    ) -> dict[str, Tensor]:
        texts = [self._texts(x, index) for index, x in enumerate(batched_inputs)]
        return super().losses({**outputs, "texts": self.embed_texts(texts)}, batched_inputs, images, valid_sizes)

    def embed_texts(self, texts: list[list[str]]) -> Tensor:
        """X strings of each image -> (B, Q, C): their embeddings, then the learned ones."""
        if self.text_encoder is None or self.text_projector is None or self.prompt_ctx is None:
            raise ValueError("OneFormer trains with its text part only: set MODEL.ONEFORMER.TEXT_ENCODER.ENABLED True")
        # Most texts are the same few: each is encoded once.
        place = {text: index for index, text in enumerate(dict.fromkeys(chain.from_iterable(texts)))}
        tokens = tokenize(list(place), self.text_encoder.context_length)
        embeddings = self.text_projector(self.text_encoder(tokens.to(self.device)))
        places = torch.tensor([[place[text] for text in of_image] for of_image in texts], device=self.device)
        learned = self.prompt_ctx.weight.expand(len(texts), -1, -1)
        return torch.cat((embeddings[places], learned), dim=1)

    def _texts(self, model_input: dict, index: int) -> list[str]:
        name, texts = name_of(model_input, index), model_input.get("text")
        if texts is None:
            raise ValueError(f"{name}: a training input must hold 'text', a list of {self.num_texts} strings")
        if len(texts) != self.num_texts:
            raise ValueError(
                f"{name}: 'text' holds {len(texts)} strings, but must hold {self.num_texts}: "
                "MODEL.ONEFORMER.NUM_QUERIES less TEXT_ENCODER.NUM_CONTEXT"
            )
        return list(texts)


_NO_TEXT_PARTS = {"text_encoder": None, "text_projector": None, "prompt_ctx": None}


def _text_parts(node: CN, hidden_dim: int) -> dict[str, nn.Module]:
    """What MODEL.ONEFORMER.TEXT_ENCODER describes."""
    return {
        "text_encoder": TextEncoder(
            width=node.WIDTH,
            num_layers=node.NUM_LAYERS,
            context_length=node.CONTEXT_LENGTH,
            vocab_size=node.VOCAB_SIZE,
        ),
        "text_projector": MLP(node.WIDTH, hidden_dim, hidden_dim, node.PROJ_NUM_LAYERS),
        "prompt_ctx": nn.Embedding(node.NUM_CONTEXT, hidden_dim),
    }


def task_of(sentence: str) -> str:
    """The one of TASKS that `sentence` ("panoptic", "The task is panoptic") contains, in any case, else ValueError."""
    named = [task for task in TASKS if task in sentence.lower()]
    if len(named) != 1:
        raise ValueError(f"task {sentence!r} must name one of {', '.join(TASKS)}")
    return named[0]


def _task(model_input: dict, index: int) -> str:
    name = name_of(model_input, index)
    if "task" not in model_input:
        raise ValueError(f"{name}: an input must hold 'task', one of {', '.join(TASKS)}")
    try:
        return task_of(model_input["task"])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
