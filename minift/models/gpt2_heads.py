"""GPT-2 with a label for each text, and the family's table of names.

B: batch, T: tokens, C: hidden size, K: classes. The language model itself is in
:mod:`minift.models.gpt2`.
"""

import torch
from torch import Tensor, nn

from minift.errors import InputError
from minift.models.checks import refuse_token_types
from minift.models.family import Family
from minift.models.gpt2 import GPT2Config, GPT2LMHeadModel, GPT2Model
from minift.models.init import init_weights
from minift.models.losses import text_loss
from minift.models.output import ModelOutput


class GPT2ForSequenceClassification(nn.Module):
    """Labels or numbers for a whole text: ``logits = W · (state of its last token)``.

    Only the last token has seen the whole text. It is the last one that is not
    ``config.pad_token_id``, with padding on either side. ``config.id2label`` names the classes
    (two when it is ``None``), ``config.problem_type`` says what they are: see
    ``minift.models.losses.text_loss``. Hugging Face's counterpart has the same name.
    """

    has_labels = True

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.transformer = GPT2Model(config)
        self.score = nn.Linear(config.n_embd, len(config.id2label or "01"), bias=False)
        init_weights(self.score, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        token_type_ids: None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """``logits (B, K)``, and ``loss`` when ``labels`` are given, in ``text_loss``'s shapes.

        Raises:
            InputError: as ``GPT2Model``; a batch, and no ``pad_token_id`` in the config.
        """
        refuse_token_types(token_type_ids)
        output = self.transformer(
            input_ids,
            attention_mask,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        scores = self.score(output.last_hidden_state)  # (B, T, K)
        rows = torch.arange(len(scores), device=scores.device)
        output.logits = scores[rows, self._last_tokens(input_ids)]
        if labels is not None:
            output.loss = text_loss(output.logits, labels, self.config.problem_type)
        return output

    def _last_tokens(self, input_ids: Tensor) -> Tensor:
        """The place of each text's last token, ``(B,)``."""
        pad, (batch, tokens) = self.config.pad_token_id, input_ids.shape
        if pad is None:
            if batch == 1:
                return input_ids.new_full((1,), tokens - 1)
            raise InputError(
                f"pad_token_id: None in the config, and {batch} texts in the batch; right: the id "
                "that fills short texts, or one text at a time"
            )
        places = torch.arange(tokens, device=input_ids.device).expand(batch, -1)  # (B, T)
        return places.masked_fill(input_ids == pad, 0).amax(-1)


FAMILY = Family(
    config=GPT2Config,
    prefix="transformer",
    classes={
        "GPT2LMHeadModel": GPT2LMHeadModel,
        "GPT2Model": GPT2Model,
        "GPT2ForSequenceClassification": GPT2ForSequenceClassification,
    },
    tasks={
        "decoder": GPT2Model,
        "causal-lm": GPT2LMHeadModel,
        "sequence-classification": GPT2ForSequenceClassification,
    },
    names={
        "token": "wte",
        "position": "wpe",
        "layers.{i}.norm_1": "h.{i}.ln_1",
        "layers.{i}.attention.qkv": "h.{i}.attn.c_attn",
        "layers.{i}.attention.output": "h.{i}.attn.c_proj",
        "layers.{i}.norm_2": "h.{i}.ln_2",
        "layers.{i}.feed_forward.up": "h.{i}.mlp.c_fc",
        "layers.{i}.feed_forward.down": "h.{i}.mlp.c_proj",
        "norm": "ln_f",
        "lm_head": "lm_head",
        "score": "score",
    },
    transposed=(
        "layers.{i}.attention.qkv",
        "layers.{i}.attention.output",
        "layers.{i}.feed_forward.up",
        "layers.{i}.feed_forward.down",
    ),
    ignorable=(r"h\.\d+\.attn\.(bias|masked_bias)",),  # causal-mask buffers that old versions saved
    heads=(r"lm_head\..*", r"score\..*", r"classifier\..*", r"multiple_choice_head\..*"),
    lasting=(r"lm_head\..*",),
    tied={"lm_head.weight": "transformer.token.weight"},
)
