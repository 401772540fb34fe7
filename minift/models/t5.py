"""T5: an encoder-decoder that turns every task into text to text (Raffel et al. 2020).

    encoder:  x = x + attention(norm(x)) + …          each token sees the whole input
              x = x + feed_forward(norm(x))
    decoder:  y = y + attention(norm(y))              each token sees itself and those before
              y = y + attention(norm(y), x)           "cross": queries from y, keys from x
              y = y + feed_forward(norm(y))
    logits = norm(y) · sharedᵀ / √C                   without the root in version 1.1

Positions are no vectors but a bias of the scores, made once for each stack and used in all of its
layers; scores are not divided by √D, the starting weights of the queries are instead. No product
has a bias. arXiv:1910.10683. B: batch, S: source tokens, T: new target tokens, N: all target
tokens, C: hidden size, H: heads, D: size of a head (H · D need not be C).
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minift.errors import InputError
from minift.generation.cache import KVCache
from minift.generation.seq2seq import generate
from minift.layers.mask import causal_mask, padding_mask
from minift.layers.norm import RMSNorm
from minift.models.checks import check_inputs, check_labels
from minift.models.family import Family, Tensors
from minift.models.output import ModelOutput
from minift.models.t5_stack import Passing, T5Config, T5Stack


class T5ForConditionalGeneration(nn.Module):
    """The encoder-decoder with its head: source and target ids → logits.

    Hugging Face's counterpart has the same name. Where ``tie_word_embeddings`` holds, ``lm_head``
    is ``None`` and the one table of embeddings, ``shared``, is used.
    """

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config, decoder=False)
        self.decoder = T5Stack(config, decoder=True)
        self.lm_head = None
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        start_weights(self)

    generate = generate

    @property
    def start_token_id(self) -> int:
        """What every target begins with."""
        assert self.config.decoder_start_token_id is not None  # the config has seen to it
        return self.config.decoder_start_token_id

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        cache: KVCache | None = None,
        *,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_output: ModelOutput | None = None,
        last_only: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """``logits (B, T, V)`` for the source ``input_ids (B, S)`` and a target.

        Args:
            attention_mask: ``(B, S)``, 1 for source tokens and 0 for padding, on either side.
            labels: ``(B, T)``, the target; −100 is ignored.
            cache: of the target tokens before these; it is extended in place.
            decoder_input_ids: ``(B, T)``, what the decoder reads; ``None``: the labels, one place
                to the right, after ``decoder_start_token_id``.
            decoder_attention_mask: ``(B, N)``, 1 for target tokens, cached ones included.
            encoder_output: from ``encode``, so that many decoding steps read the source once.
            last_only: logits of the last token only, ``(B, 1, V)``, for decoding.

        Raises:
            InputError: ids or labels outside the vocabulary, a mask of another shape, neither
                labels nor ``decoder_input_ids``, neither a source nor the encoder's output.
        """
        if decoder_input_ids is None:
            if labels is None:
                raise InputError("decoder_input_ids: None; right: a target, here or in labels")
            check_labels(labels, tuple(labels.shape), self.config.vocab_size)
            decoder_input_ids = self.shifted(labels)
        options = {"output_hidden_states": output_hidden_states}
        options |= {"output_attentions": output_attentions}
        if encoder_output is None:
            if input_ids is None:
                raise InputError("input_ids: None; right: a source, or encoder_output")
            encoder_output = self.encode(input_ids, attention_mask, **options)
        source = encoder_output.last_hidden_state
        assert source is not None
        mask = padding_mask(attention_mask)  # (B, 1, 1, S)
        output = self._decode(
            decoder_input_ids, decoder_attention_mask, source, mask, cache, **options
        )
        output.encoder_last_hidden_state = source
        output.encoder_hidden_states = encoder_output.hidden_states
        output.encoder_attentions = encoder_output.attentions
        x = output.last_hidden_state
        assert x is not None
        output.logits = self._head(x[:, -1:] if last_only else x)
        if labels is not None:
            check_labels(labels, tuple(decoder_input_ids.shape), self.config.vocab_size)
            output.loss = F.cross_entropy(output.logits.float().flatten(0, 1), labels.flatten())
        return output

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """The encoder alone: ``input_ids (B, S)`` → ``last_hidden_state (B, S, C)``."""
        self._check("input_ids", "attention_mask", input_ids, attention_mask, 0)
        length = input_ids.shape[1]
        passing = Passing(
            padding_mask(attention_mask),  # (B, 1, 1, S)
            self.encoder.relative_bias(length, length),  # (1, H, S, S)
            attentions=[] if output_attentions else None,
        )
        x, hidden_states = self.encoder(self.shared(input_ids), passing)
        return ModelOutput(
            last_hidden_state=x,
            hidden_states=hidden_states if output_hidden_states else None,
            attentions=None if passing.attentions is None else tuple(passing.attentions),
        )

    def shifted(self, labels: Tensor) -> Tensor:
        """What the decoder reads to predict ``labels (B, T)``: the start, then all but the last."""
        ids = F.pad(labels, (1, 0), value=self.start_token_id)[:, :-1]  # (B, T)
        pad = self.config.pad_token_id
        return ids if pad is None else ids.masked_fill(ids == -100, pad)

    def _decode(
        self,
        ids: Tensor,
        attention_mask: Tensor | None,
        source: Tensor,
        source_mask: Tensor | None,
        cache: KVCache | None,
        *,
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> ModelOutput:
        past, new = 0 if cache is None else cache.length, ids.shape[1]
        self._check("decoder_input_ids", "decoder_attention_mask", ids, attention_mask, past)
        mask = causal_mask(new, past + new, ids.device)  # (T, N)
        padding = padding_mask(attention_mask)  # (B, 1, 1, N)
        passing = Passing(
            mask if padding is None else padding & mask,  # (T, N) or (B, 1, T, N)
            self.decoder.relative_bias(new, past + new),  # (1, H, T, N)
            cache,
            source,
            source_mask,
            attentions=[] if output_attentions else None,
            cross_attentions=[] if output_attentions else None,
        )
        x, hidden_states = self.decoder(self.shared(ids), passing)
        if cache is not None:
            cache.advance(new)
        return ModelOutput(
            last_hidden_state=x,
            cache=cache,
            hidden_states=hidden_states if output_hidden_states else None,
            attentions=_or_none(passing.attentions),
            cross_attentions=_or_none(passing.cross_attentions),
        )

    def _head(self, x: Tensor) -> Tensor:
        if self.config.scale_decoder_outputs:
            x = x * self.config.d_model**-0.5
        return F.linear(x, self.shared.weight if self.lm_head is None else self.lm_head.weight)

    def _check(
        self, name: str, mask_name: str, ids: Tensor, mask: Tensor | None, past: int
    ) -> None:
        check_inputs(
            ids,
            mask,
            vocab_size=self.config.vocab_size,
            max_positions=None,
            past=past,
            names=(name, mask_name),
        )


def _or_none(found: list[Tensor] | None) -> tuple[Tensor, ...] | None:
    return None if found is None else tuple(found)


@torch.no_grad()
def start_weights(model: T5ForConditionalGeneration) -> None:
    """The paper's start: deviations that make up for scores without 1/√D, times a factor."""
    config = model.config
    factor, hidden = config.initializer_factor, config.d_model**-0.5
    inner = (config.num_heads * config.d_kv) ** -0.5
    stds = {"q": hidden * config.d_kv**-0.5, "k": hidden, "v": hidden, "output": inner}
    stds |= {"gate": hidden, "up": hidden, "down": config.d_ff**-0.5, "table": hidden}
    stds |= {"shared": 1.0, "lm_head": 1.0}
    for path, module in model.named_modules():
        if isinstance(module, RMSNorm):
            module.weight.fill_(factor)
        elif isinstance(module, nn.Linear | nn.Embedding):
            module.weight.normal_(0.0, factor * stds[path.rpartition(".")[2]])


def untied(tensors: Tensors, config: T5Config) -> T5Config:
    """A head of its own is what its tensor says, not the config: transformers 5 always writes
    that it is tied."""
    head, shared = tensors.get("lm_head.weight"), tensors.get("shared.weight")
    own = head is not None and (shared is None or not torch.equal(head, shared))
    return replace(config, tie_word_embeddings=not own)


def _names() -> dict[str, str]:
    """The two stacks are named alike; a decoder's layer has one part more."""
    names = {"shared": "shared", "lm_head": "lm_head"}
    for stack, last in (("encoder", 1), ("decoder", 2)):
        ours, theirs = f"{stack}.layers.{{i}}", f"{stack}.block.{{i}}.layer"
        attentions = {"attention": "0.SelfAttention", "cross_attention": "1.EncDecAttention"}
        for part, place in list(attentions.items())[:last]:
            for product in "qkv":
                names[f"{ours}.{part}.{product}"] = f"{theirs}.{place}.{product}"
            names[f"{ours}.{part}.output"] = f"{theirs}.{place}.o"
        norms = ["norm_1", "norm_cross", "norm_2"] if last == 2 else ["norm_1", "norm_2"]
        for i, norm in enumerate(norms):
            names[f"{ours}.{norm}"] = f"{theirs}.{i}.layer_norm"
        network = f"{theirs}.{last}.DenseReluDense"
        for mine, other in {"up": "wi", "down": "wo"}.items():
            names[f"{ours}.feed_forward.{mine}"] = f"{network}.{other}"
        for mine, other in {"gate": "wi_0", "up": "wi_1", "down": "wo"}.items():
            names[f"{ours}.gated_feed_forward.{mine}"] = f"{network}.{other}"
        names[f"{stack}.relative_bias.table"] = (
            f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
        )
        names[f"{stack}.norm"] = f"{stack}.final_layer_norm"
    return names


FAMILY = Family(
    config=T5Config,
    prefix="transformer",  # of heads that are not here: this class has its parts at the top
    classes={"T5ForConditionalGeneration": T5ForConditionalGeneration},
    tasks={"seq2seq-lm": T5ForConditionalGeneration},
    names=_names(),
    ignorable=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    tied={
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
        "lm_head.weight": "shared.weight",
    },
    settle=untied,
)
