"""Beam search: the K most probable beginnings are kept beside each other.

Each step extends every beam by every token and keeps the best of all of them. A finished text gets

    score = log p(new tokens | prompt) / (number of new tokens) ** length_penalty

since a sum of log-probabilities only ever falls: without the division short texts would always win.
When to end is a matter of ``early_stopping``:

- ``True``: as soon as K texts are finished;
- ``False``: when K are finished and the best running beam, if it ended now, would be worse than
  all of them (a guess: with a large ``length_penalty`` it could still rise);
- ``"never"``: when no running beam can become better, however long it gets.

Freitag and Al-Onaizan 2017, section 2; the length penalty and the three ends are Hugging Face's,
whose ``generate(num_beams=K)`` gives the same tokens.

B: prompts, K: beams of each, C ≥ 2K: candidates of a step, N: tokens so far, V: vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from minift.generation.processors import Processor
from minift.generation.settings import GenerationSettings
from minift.generation.state import DecodingState
from minift.generation.stopping import Stop

NEVER = -1.0e9
"""The score of a text that must not be chosen; −∞ would become NaN in differences."""


@dataclass
class Beams:
    """Texts of each prompt with their scores, the best first."""

    ids: Tensor
    """``(B, M, N)``"""
    scores: Tensor
    """``(B, M)``: log-probabilities of the new tokens; of a finished text, divided by length."""
    rows: Tensor
    """``(B, M)``: which of the prompt's running beams each text continues."""
    new: Tensor
    """``(B, M)``: number of new tokens; 0 where there is no finished text yet."""

    def take(self, places: Tensor) -> "Beams":
        """The texts at ``places (B, M')``."""
        ids = self.ids.gather(1, places[:, :, None].expand(-1, -1, self.ids.shape[2]))
        flat = (self.scores, self.rows, self.new)
        return Beams(ids, *(part.gather(1, places) for part in flat))

    def joined(self, others: "Beams") -> "Beams":
        """These texts, then the others."""
        return Beams(
            torch.cat([self.ids, others.ids], dim=1),
            torch.cat([self.scores, others.scores], dim=1),
            torch.cat([self.rows, others.rows], dim=1),
            torch.cat([self.new, others.new], dim=1),
        )


def beam_search(
    state: DecodingState,
    ids: Tensor,
    logits: Tensor,
    settings: GenerationSettings,
    *,
    process: Processor,
    stop: Stop,
) -> Tensor:
    """The best texts of each prompt, ``(B · num_return_sequences, T + new)``.

    Args:
        ids: ``(B · K, T)``, each prompt K times, and ``logits (B · K, V)`` of the next token.
    """
    search = BeamSearch(ids, settings, stop)
    while True:
        log_probs = process(search.flat_ids, logits.float().log_softmax(dim=-1))  # (B·K, V)
        search.step(log_probs)
        if search.over:
            return search.result()
        state.reorder(search.flat_rows)
        logits = state.next_logits(search.flat_ids)


class BeamSearch:
    """Running and finished texts of a whole batch."""

    def __init__(self, ids: Tensor, settings: GenerationSettings, stop: Stop) -> None:
        self.settings, self.stop = settings, stop
        self.prompt = ids.shape[1]
        self.longest = self.prompt + settings.max_new_tokens
        texts = ids.view(-1, settings.num_beams, self.prompt)  # (B, K, T)
        none = torch.zeros(texts.shape[:2], dtype=torch.long, device=ids.device)
        scores = torch.full(none.shape, NEVER, device=ids.device)
        self.finished = Beams(self._filled(texts), scores, none, none)
        # all K are the same text: only the first may be extended
        self.running = Beams(texts, scores.index_fill(1, none[0, :1], 0.0), none, none)
        self.improvable = torch.ones_like(none[:, :1], dtype=torch.bool)  # (B, 1)
        self.over = False

    @property
    def flat_ids(self) -> Tensor:
        """``(B · K, N)``: the running texts."""
        return self.running.ids.flatten(0, 1)

    @property
    def flat_rows(self) -> Tensor:
        """``(B · K,)``: the row of the batch that each running text continues."""
        batch, beams = self.running.rows.shape
        first = torch.arange(batch, device=self.running.rows.device)[:, None] * beams
        return (self.running.rows + first).flatten()

    def step(self, log_probs: Tensor) -> None:
        """One more token for each beam, from ``log_probs (B · K, V)``."""
        candidates = self._candidates(log_probs)
        ended = self.stop(candidates.ids.flatten(0, 1)).view_as(candidates.rows)  # (B, C)
        if candidates.ids.shape[2] == self.longest:
            ended = torch.ones_like(ended)
        self._finish(candidates, ended)
        # where fewer than K go on, an ended text fills the place, with a score that loses
        candidates.scores = candidates.scores + ended * NEVER
        self.running = candidates.take(candidates.scores.topk(self.settings.num_beams).indices)
        self.improvable &= self._can_improve()
        self.over = self._is_over(ended)

    def result(self) -> Tensor:
        """The best finished texts, cut after the longest of them."""
        best = self.settings.num_return_sequences
        ids, new = self.finished.ids[:, :best], self.finished.new[:, :best]
        return ids.flatten(0, 1)[:, : self.prompt + int(new.max())]

    def _candidates(self, log_probs: Tensor) -> Beams:
        """The C best (or drawn) extensions of all K · V, so many that K of them go on."""
        beams, vocabulary = self.settings.num_beams, log_probs.shape[-1]
        scores = log_probs.view(-1, beams, vocabulary) + self.running.scores[:, :, None]
        scores = scores.flatten(1)  # (B, K·V)
        count = max(2, 1 + len(self.settings.eos_token_id)) * beams
        if self.settings.do_sample:
            chosen = torch.multinomial(scores.softmax(dim=-1), count)  # (B, C)
        else:
            chosen = scores.topk(count).indices
        rows, token = chosen // vocabulary, chosen % vocabulary
        old = self.running.ids.gather(1, rows[:, :, None].expand(-1, -1, self.running.ids.shape[2]))
        ids = torch.cat([old, token[:, :, None].to(old.dtype)], dim=2)  # (B, C, N + 1)
        return Beams(ids, scores.gather(1, chosen), rows, torch.full_like(rows, self._new(ids)))

    def _finish(self, candidates: Beams, ended: Tensor) -> None:
        """Move texts that ended among the K best candidates to the finished ones."""
        beams, new = self.settings.num_beams, self._new(candidates.ids)
        among_best = torch.arange(ended.shape[1], device=ended.device) < beams  # (C,)
        counts = ended & among_best
        closed = ~self.improvable
        if self.settings.early_stopping is True:
            closed = closed | self._all_done
        scores = candidates.scores / new**self.settings.length_penalty
        scores = scores + closed * NEVER + ~counts * NEVER
        texts = Beams(
            self._filled(candidates.ids), scores, candidates.rows, candidates.new * counts
        )
        merged = self.finished.joined(texts)
        self.finished = merged.take(merged.scores.topk(beams).indices)

    def _can_improve(self) -> Tensor:
        """``(B, 1)``: whether the best running text could still beat the worst finished one."""
        penalty, new = self.settings.length_penalty, self._new(self.running.ids)
        if self.settings.early_stopping == "never" and penalty > 0.0:
            new = self.settings.max_new_tokens  # it would rise up to there
        best = self.running.scores[:, :1] / new**penalty
        worst = self.finished.scores.amin(dim=1, keepdim=True)
        worst = worst.where(self.finished.new > 0, NEVER)  # (B, K): a free place can be filled
        return (best > worst).any(dim=1, keepdim=True)

    @property
    def _all_done(self) -> Tensor:
        return (self.finished.new > 0).all(dim=1, keepdim=True)  # (B, 1)

    def _is_over(self, ended: Tensor) -> bool:
        full = self.settings.early_stopping is True and bool(self._all_done.all())
        return full or bool(ended.all()) or not bool(self.improvable.any())

    def _new(self, ids: Tensor) -> int:
        return ids.shape[2] - self.prompt

    def _filled(self, ids: Tensor) -> Tensor:
        """``(B, M, N)`` → ``(B, M, longest)``."""
        # a padding token 0 gives way to EOS, and without EOS there is none: both as theirs
        pad, eos = self.settings.pad_token_id, self.settings.eos_token_id
        fill = pad or (eos[0] if eos else -1)
        return F.pad(ids, (0, self.longest - ids.shape[2]), value=fill)
