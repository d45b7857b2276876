"""The rule of writes to a neural memory, and the memory itself."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from memzoo.errors import InputError

from .inner_loss import InnerLoss
from .memory_network import MemoryNetwork, Weights, level_of
from .newton_schulz import newton_schulz
from .recurrence import select
from .weight_link import Link, linked


@dataclass(frozen=True, kw_only=True)
class WriteRule:
    """The rule of a write.

    Attributes:
        update_every: tokens per window; their gradients are taken at the weights before
            the window.
        read: read `after` or `before` the token's own write, or the weights before the
            `window`.
        loss: loss at a token; see `inner_loss`.
        loss_power: p of the loss `power`.
        loss_window: number of tokens whose losses are summed at every token (the Omega
            rule of ATLAS, arXiv 2505.23735, with equal weights); 1: only its own.
        clip: largest norm of a token's gradient, over all weights of a head; None: no
            limit.
        scale_by_place: divide the learning rate by the token's place in its window,
            from 1.
        keep_row_norms: at the start of every window, restore the norm that each row of
            each matrix had in a new memory.
        keep_output_norms: the same for the norm of the weights into each output.
        schedule: `titans`; `window` (TTT); `lagged` (LaCT): all tokens of a window read
            the weights before it, and its summed step is applied when the next begins.
        level_ratio: the windows of a network's level l, from 0, have
            `update_every * level_ratio**l` tokens, and its learning rate is divided by
            `level_ratio**l`.
        newton_schulz_steps: steps of the Newton-Schulz iteration that each matrix of
            the momentum passes through before the learning rate multiplies it (Muon;
            ATLAS); 0: none.
        link: map from the kept matrices to those that the network uses (MIRAS, arXiv
            2504.13173): `identity`, `q_norm` or `softmax`; see `weight_link`.
        link_power: q of the link `q_norm`.
    """

    update_every: int = 64
    read: Literal["after", "before", "window"] = "after"
    loss: InnerLoss = "full"
    loss_power: float = 3.0
    loss_window: int = 1
    clip: float | None = None
    scale_by_place: bool = False
    keep_row_norms: bool = False
    keep_output_norms: bool = False
    schedule: Literal["titans", "window", "lagged"] = "titans"
    level_ratio: int = 1
    newton_schulz_steps: int = 0
    link: Link = "identity"
    link_power: float = 4.0

    def __post_init__(self) -> None:
        for name in ("update_every", "loss_window", "level_ratio"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.clip is not None and self.clip <= 0:
            raise InputError(f"clip is {self.clip}; give a positive norm, or None")
        if self.loss == "huber" and self.loss_window > 1:
            raise InputError(
                f"loss_window is {self.loss_window}, but a huber loss has a threshold "
                "for one token; set loss_window to 1"
            )
        if self.level_ratio > 1 and not self.linear:
            raise InputError(
                f"level_ratio is {self.level_ratio}, but levels have no link and no "
                "Newton-Schulz steps; set level_ratio to 1"
            )
        if self.schedule == "window" and not self.linear:
            raise InputError(
                "the schedule window has neither a link nor Newton-Schulz steps; "
                "choose the schedule titans"
            )
        lagged = self.schedule == "lagged"
        if lagged and (self.loss_window > 1 or self.link != "identity"):
            raise InputError(
                "the schedule lagged has neither a link nor a loss_window above 1; "
                "choose the schedule titans"
            )

    @property
    def keeps_norms(self) -> bool:
        """True if windows begin by restoring norms of a new memory."""
        return self.keep_row_norms or self.keep_output_norms

    @property
    def linear(self) -> bool:
        """True if the used weights are sums of gradients, so none must be formed."""
        return self.link == "identity" and not self.newton_schulz_steps

    @property
    def needs_anchor(self) -> bool:
        """Whether any window is longer than a token."""
        return self.update_every > 1 or self.level_ratio > 1

    def windows_per_update(self, name: str) -> int:
        """Return the number of windows between two updates of a weight's anchor."""
        return self.level_ratio ** level_of(name)


class Recent(NamedTuple):
    """The document's last tokens, in order, for a loss over several tokens."""

    key: Float[Array, "b h w k"]
    value: Float[Array, "b h w v"]


class Pending(NamedTuple):
    """The write of an unfinished window.

    Attributes:
        step: sum of the tokens' steps.
        momentum: sum of the tokens' momentum gates.
    """

    step: Weights
    momentum: Float[Array, "b h"]


class NeuralMemory(NamedTuple):
    """The memory of each head, float32.

    Attributes:
        weights: weights of the network, before the rule's link.
        momentum: momentum of the weights; None: the rule has none.
        anchor: weights before the window; None if a window is one token, or if the
            memory serves a single call.
        recent: earlier tokens that the loss still counts; None: it counts one token.
        position: number of tokens of the document so far.
        pending: write of the window so far; None unless the schedule is lagged.
    """

    weights: Weights
    momentum: Weights | None
    anchor: Weights | None
    recent: Recent | None
    position: Int[Array, "b"]
    pending: Pending | None = None


def new_memory(
    weights: Weights,
    network: MemoryNetwork,
    rule: WriteRule,
    *,
    momentum: bool,
    carried: bool = True,
) -> NeuralMemory:
    """Return the memory that holds `weights` and has read nothing.

    Args:
        weights: weights of the network.
        network: network that the weights belong to.
        rule: rule of the writes.
        momentum: True if the gates have a momentum.
        carried: True if later calls can continue the memory. False keeps no anchor,
            which is faster.
    """
    rows, heads = next(iter(weights.values())).shape[:2]
    dtype = next(iter(weights.values())).dtype
    zeros = jax.tree.map(jnp.zeros_like, weights)
    recent = None
    if rule.loss_window > 1:
        shape = (rows, heads, rule.loss_window - 1)
        recent = Recent(
            jnp.zeros((*shape, network.key_size), dtype),
            jnp.zeros((*shape, network.value_size), dtype),
        )
    lagged = rule.schedule == "lagged"
    pending = Pending(zeros, jnp.zeros((rows, heads), dtype)) if lagged else None
    windows = carried and rule.needs_anchor and not lagged
    return NeuralMemory(
        weights=weights,
        momentum=zeros if momentum or rule.schedule == "window" else None,
        anchor=weights if windows else None,
        recent=recent,
        position=jnp.zeros((rows,), jnp.int32),
        pending=pending,
    )


def memory_type(memory: NeuralMemory) -> jnp.dtype:
    """Return the type of the weights, which is the type of all sums."""
    return next(iter(memory.weights.values())).dtype


def open_window(
    memory: NeuralMemory,
    rows: Bool[Array, "b"],
    rule: WriteRule,
    new: Weights,
    window: Int[Array, "b"],
) -> NeuralMemory:
    """Return the memory with a window opened in the given rows.

    Args:
        memory: memory after the previous window.
        rows: True for rows in which a window begins.
        rule: rule of the writes.
        new: weights of a new memory.
        window: index of the window in its document.
    """

    def chosen(opened: Weights, kept: Weights) -> Weights:
        every = {name: rule.windows_per_update(name) for name in kept}
        return {
            name: select(rows & (window % every[name] == 0), opened[name], x)
            if every[name] > 1
            else select(rows, opened[name], x)
            for name, x in kept.items()
        }

    if memory.pending is not None:
        memory = select(rows, _with_pending(memory, memory.pending, rule), memory)
    weights, momentum, anchor = memory.weights, memory.momentum, memory.anchor
    if rule.keep_row_norms:
        weights = chosen(norms_of(weights, new, -1), weights)
    if rule.keep_output_norms:
        weights = chosen(norms_of(weights, new, -2), weights)
    if rule.schedule == "window":
        momentum = select(rows, jax.tree.map(jnp.zeros_like, momentum), momentum)
    if anchor is not None:
        anchor = chosen(weights, anchor)
    return memory._replace(weights=weights, momentum=momentum, anchor=anchor)


def weights_before_window(memory: NeuralMemory, rule: WriteRule) -> Weights:
    """Return the weights before the window that contains the next token."""
    if memory.anchor is None:
        return memory.weights
    begins = memory.position % rule.update_every == 0
    window = memory.position // rule.update_every
    opened = open_window(memory, begins, rule, memory.weights, window).anchor
    assert opened is not None
    return opened


def used_weights(weights: Weights, rule: WriteRule) -> Weights:
    """Return the weights that the network uses: matrices pass through the link."""
    return {
        name: linked(w, rule.link, rule.link_power) if w.ndim == 4 else w
        for name, w in weights.items()
    }


def orthogonalised(momentum: Weights, rule: WriteRule) -> Weights:
    """Return the momentum with its matrices after the rule's Newton-Schulz steps."""
    return {
        name: newton_schulz(s, rule.newton_schulz_steps) if s.ndim == 4 else s
        for name, s in momentum.items()
    }


def _with_pending(
    memory: NeuralMemory, pending: Pending, rule: WriteRule
) -> NeuralMemory:
    """Return the memory with the write of a finished window applied."""
    step, momentum = pending.step, memory.momentum
    if momentum is not None:
        share = pending.momentum / rule.update_every
        step = momentum = {
            name: s + share.reshape(share.shape + (1,) * (s.ndim - 2)) * momentum[name]
            for name, s in step.items()
        }
    if rule.newton_schulz_steps:
        step = orthogonalised(step, rule)
    return memory._replace(
        weights=jax.tree.map(jnp.add, memory.weights, step),
        momentum=momentum,
        pending=jax.tree.map(jnp.zeros_like, pending),
    )


def norms_of(weights: Weights, like: Weights, axis: int) -> Weights:
    """Return the weights, with the norms of matrices along `axis` taken from `like`."""

    def norm(x: Array) -> Array:
        return jnp.sqrt(jnp.sum(jnp.square(x), axis=axis, keepdims=True) + 1e-12)

    return {
        name: w * (norm(like[name]) / norm(w)) if w.ndim == 4 else w
        for name, w in weights.items()
    }
