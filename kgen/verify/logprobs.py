"""What a language model makes of a linear layer's rounding: logits as log-probabilities, judged beside those of a reference.

    top-1      the most likely token is the same one, in at least 99 % of the rows
    top-5      the five most likely tokens are the same, 95 % of them on average
    log p      the log-probability of the reference's most likely token is off by at most 0.01 nat in every row

Logits of 16 bits tie. A token counts as among the first n if its logit is not below that of the n-th: which of two equal logits comes first
is up to the sampler. A logit of 10 has a spacing of 2^-4 in bf16, more than the third limit: judge bf16 logits against a reference in bf16
(the exact result rounded once, or torch's linear), fp16 logits against the exact result as well.

The limits are those proposed with vLLM's pull request 35183.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kgen.verify.elements import Doubles

TOP1, TOP5, NATS = 0.99, 0.95, 0.01
BEST = 5


@dataclass(frozen=True)
class LogprobVerdict:
    """What the rules say of some rows of logits. top1, top5: shares of the rows; nats: the largest difference of a top-1 logprob."""

    ok: bool
    rows: int
    top1: float
    top5: float
    nats: float

    @property
    def words(self) -> str:
        """The three numbers with their limits."""
        return (
            f"{self.rows} rows: top-1 {self.top1:.2%} (at least {TOP1:.0%}), top-5 {self.top5:.2%} (at least {TOP5:.0%}), "
            f"top-1 log p off by {self.nats:.2g} nat (at most {NATS})"
        )


def logprobs(logits: Doubles) -> Doubles:
    """Log of the softmax over the last axis, in fp64."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    out: Doubles = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return out


def judge_logprobs(logits: Doubles, reference: Doubles) -> LogprobVerdict:
    """Judge logits [rows, vocabulary] beside a reference of the same shape. NaN or infinity anywhere fails."""
    assert logits.shape == reference.shape, (logits.shape, reference.shape)
    rows = logits.shape[0]
    if not np.isfinite(logits).all():
        return LogprobVerdict(False, rows, 0.0, 0.0, np.inf)
    order = np.argsort(-reference, axis=-1, kind="stable")[:, :BEST]
    picked = np.take_along_axis(logits, order, axis=-1)
    ranked = -np.sort(-logits, axis=-1)[:, :BEST]
    top1 = float((picked[:, 0] >= ranked[:, 0]).mean())
    top5 = float((picked >= ranked[:, -1:]).mean())
    first = order[:, :1]
    apart = np.take_along_axis(logprobs(logits), first, -1) - np.take_along_axis(logprobs(reference), first, -1)
    nats = float(np.abs(apart).max())
    return LogprobVerdict(top1 >= TOP1 and top5 >= TOP5 and nats <= NATS, rows, top1, top5, nats)
