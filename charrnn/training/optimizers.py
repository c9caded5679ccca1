"""Update rules: torch's own and Muon, each with a peak learning rate at which it learns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from charrnn.config import TrainingConfig
from charrnn.training.muon import Muon
from charrnn.training.updates import AdamW

Groups = list[dict]


@dataclass(frozen=True)
class OptimizerRecipe:
    """How to make an optimizer.

    Args:
        default_rate: Peak learning rate of a layer with 256 neurons.
        build: Parameter groups and learning rate to a torch optimizer.
        falls_with_width: Whether the rate is inverse to the width, as for rules that divide by the
            gradient's size: a sum over twice as many inputs then moves twice as far.
        decay: Weight decay where none is set.
        decouples: Whether the rule itself takes ``weight_decay`` as decoupled; torch's others add it
            to the gradient, which is what ``l2`` means here.
        by_gate: Whether matrices inside the recurrent layers are updated gate by gate, in a group
            of their own.
        recorded_with: What torch's rule is told on CUDA so that a CUDA graph can record it, with the rate
            as a tensor; nothing where it cannot.
    """

    default_rate: float
    build: Callable[..., torch.optim.Optimizer]
    falls_with_width: bool = True
    decay: float = 0.0
    decouples: bool = False
    by_gate: bool = False
    recorded_with: tuple[str, ...] = ("capturable",)

    def make(self, groups: Groups, rate: float, device: torch.device) -> torch.optim.Optimizer:
        """Return the optimizer for weights on a device."""
        _leave_the_compiler_out()
        if device.type != "cuda":
            return self.build(groups, rate)
        optimizer = self.build(groups, rate, **dict.fromkeys(self.recorded_with, True))
        # the first steps, and those of rare shapes, are taken without a recording: that is as meant
        optimizer._warned_capturable_if_run_uncaptured = True
        return optimizer

    def rate(self, hidden_size: int) -> float:
        """Return the peak learning rate for a width."""
        return self.default_rate * (min(1.25, 256 / hidden_size) if self.falls_with_width else 1.0)


def _leave_the_compiler_out() -> None:
    """Spare the first optimizer a second and 70 MB: it imports torch's compiler to be left alone by it.

    What torch keeps there after the first call of a method is kept before it. A torch that looks elsewhere
    imports its compiler, as it always does where it is in use already or where a rule's own step asks for it.
    """
    if "torch._dynamo" in sys.modules:
        return
    for method in vars(torch.optim.Optimizer).values():
        bare = getattr(method, "__wrapped__", None)
        if bare is not None and not hasattr(bare, "__dynamo_disable"):
            setattr(bare, "__dynamo_disable", bare)


_BETAS = (0.9, 0.99)

sgd = OptimizerRecipe(8.0, torch.optim.SGD, falls_with_width=False, recorded_with=("fused",))
"""Stochastic gradient descent (Robbins & Monro 1951)."""

momentum = OptimizerRecipe(
    1.0, partial(torch.optim.SGD, momentum=0.9), falls_with_width=False, recorded_with=("fused",)
)
"""Gradient descent with momentum 0.9 (Polyak 1964)."""

nesterov = OptimizerRecipe(
    1.0,
    partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    falls_with_width=False,
    recorded_with=("fused",),
)
"""Gradient descent with Nesterov's momentum 0.9 (Sutskever et al. 2013)."""

adagrad = OptimizerRecipe(5e-2, torch.optim.Adagrad, recorded_with=())
"""Adagrad (Duchi, Hazan & Singer 2011)."""

rmsprop = OptimizerRecipe(5e-3, partial(torch.optim.RMSprop, alpha=0.95))
"""RMSprop with char-rnn's decay of 0.95 (Tieleman & Hinton 2012)."""

adadelta = OptimizerRecipe(10.0, partial(torch.optim.Adadelta, rho=0.95), falls_with_width=False)
"""Adadelta with the paper's decay of 0.95 (Zeiler 2012); its steps begin tiny, so the rate is above 1."""

adam = OptimizerRecipe(12e-3, partial(torch.optim.Adam, betas=_BETAS, fused=True))
"""Adam (Kingma & Ba 2015)."""

nadam = OptimizerRecipe(12e-3, partial(torch.optim.NAdam, betas=_BETAS))
"""Adam with Nesterov's momentum (Dozat 2016)."""

adamw = OptimizerRecipe(12e-3, partial(AdamW, betas=_BETAS, fused=True), decay=0.01, decouples=True)
"""Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

muon = OptimizerRecipe(
    24e-3,
    partial(Muon, betas=_BETAS),
    decay=0.01,
    decouples=True,
    by_gate=True,
    recorded_with=("capturable", "fused"),
)
"""Muon (Jordan et al. 2024) for the matrices inside recurrent layers, AdamW for all else."""


def parameter_groups(network: nn.Module, recipe: OptimizerRecipe, training: TrainingConfig) -> Groups:
    """Return the trained matrices, pulled towards zero if anything is, and the biases, which are not."""
    pull = training.weight_decay if recipe.decouples else training.l2
    inside = _inside(network) if recipe.by_gate else []
    ours = {id(p) for p in inside}
    trained = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.dim() > 1 and id(p) not in ours]
    vectors = [p for p in trained if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": pull}, {"params": vectors, "weight_decay": 0.0}]
    if inside:
        groups.append({"params": inside, "weight_decay": pull, "rows": network.config.hidden_size})
    return groups


def _inside(network: nn.Module) -> list[nn.Parameter]:
    """Return the matrices (G H, ·) of the recurrent layers; one over one-hot input is an embedding."""
    readers = network.symbol_layers if network.embedding is None else ()
    one_hot = {id(network.layers[number - 1].weight_ih_l0) for number in readers}
    named = network.layers.named_parameters()
    own = [p for name, p in named if p.dim() == 2 and name.rpartition(".")[2].startswith("weight_")]
    return [p for p in own if id(p) not in one_hot and p.requires_grad]


@torch.no_grad()
def pull_to_zero(optimizer: torch.optim.Optimizer, recipe: OptimizerRecipe, training: TrainingConfig) -> None:
    """Apply, before a step, whichever of ``l2`` and ``weight_decay`` the rule does not know itself.

    ``l2`` w is added to the gradients of matrices; ``weight_decay`` shrinks them by its product with
    the learning rate (Loshchilov & Hutter 2019).
    """
    for group in optimizer.param_groups:
        matrices = [p for p in group["params"] if p.dim() > 1]
        if matrices and recipe.decouples and training.l2:
            torch._foreach_add_([p.grad for p in matrices], matrices, alpha=training.l2)
        elif matrices and not recipe.decouples and training.weight_decay:
            torch._foreach_mul_(matrices, 1 - group["lr"] * training.weight_decay)
