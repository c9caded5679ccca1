"""What was never seen to work on a device is tried there first, on little, and left out if it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from charrnn.config import ModelConfig, TrainingConfig
from charrnn.devices import arithmetic
from charrnn.model.network import Network, NetworkState, new_network
from charrnn.model.paths import Path, plainest
from charrnn.training.distributed import ALONE, Team
from charrnn.training.feed import Window
from charrnn.training.replay import CudaGraphs, Recorder, Replay
from charrnn.training.step import Step

MAX_ERROR = {"fp32": 1e-3, "tf32": 2e-2, "fp16": 5e-2, "bf16": 2e-1}
"""Largest error of the loss and of any gradient, relative to its norm: what rounding leaves room for. A path
that computes something else misses by about 1."""
MAX_DRIFT = 0.1
"""How far replayed steps may end from those taken one by one, as a share of how far they went."""
VOCAB_SIZE, ROWS, LENGTH = 31, 3, 6
GROUP, STEPS = 2, 10
LOSS_SCALE = 1024.0


def make_step(
    network: Network, training: TrainingConfig, device: torch.device, precision: str, team: Team = ALONE
) -> Step:
    """Return what does a step, on a path that computes on this device what the definition says.

    Raises:
        ConfigError: The network cannot be trained with this precision.
    """
    step = Step(network, training, device, precision, team=team)
    if step.path.rebuilt:
        fault = path_fault(step.path, network.config, device)
        if fault:
            step.take(plainest(step.path))
            step.notices.append(f"{fault}; training runs on cuDNN's layers as torch calls them")
    return step


def make_replay(step: Step, group: int) -> Replay:
    """Return what runs windows: on CUDA from recordings, if some that are tried come out as they should."""
    possible = step.device.type == "cuda" and step.network.stacked and step.recipe.recorded_with
    if not possible or step.training.recompute or step.team.size > 1:
        return Replay(step)  # a graph cannot wait for other processes, nor be given the seeds of segments
    fault = replay_fault(step, CudaGraphs)
    if fault:
        step.notices.append(f"{fault}; steps run one by one")
        return Replay(step)
    return Replay(step, CudaGraphs(step.device), group)


def path_fault(path: Path, model: ModelConfig, device: torch.device) -> str:
    """Return what is wrong with a path on a device, or nothing."""
    try:
        error = path_error(path, model, device)
    except RuntimeError as problem:
        return f"the path `{path.name}` does not run on this device ({_first_line(problem)})"
    if error < MAX_ERROR[path.precision]:
        return ""
    return f"the path `{path.name}` in {path.precision} misses the definition by {error:.2g} on this device"


def path_error(path: Path, model: ModelConfig, device: torch.device) -> float:
    """Return the largest relative error of the loss and all gradients of a small window; NaN is one."""
    small = replace(model, num_layers=min(2, model.num_layers), dropout=0.0, weight_drop=0.0)
    network = new_network(small, VOCAB_SIZE).to(device).train()
    ids = _random_ids(1, device)
    state = network.initial_state(ROWS)
    with arithmetic(device, "fp32"):
        logits, _ = network.reference(ids[:, :-1], state)
        wanted = _gradients(network, cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()), 1.0)
    with arithmetic(device, path.precision):
        loss, _ = network.loss(ids[:, :-1], ids[:, 1:], state, None, path, False)
        found = _gradients(network, loss, LOSS_SCALE)
    errors = [(a - b).norm() / b.norm() for a, b in zip(found, wanted, strict=True)]
    return float(torch.stack(errors).max())


def _gradients(network: Network, loss: Tensor, scale: float) -> list[Tensor]:
    """Return the loss and the gradient of every weight, made from the loss times a scale."""
    made = torch.autograd.grad(loss * scale, list(network.parameters()))
    return [loss.detach(), *(gradient / scale for gradient in made)]


def replay_fault(step: Step, recorder: Callable[[torch.device], Recorder]) -> str:
    """Return what is wrong with recordings of steps like this one, or nothing."""
    try:
        drift = replay_drift(step, recorder)
    except RuntimeError as problem:
        return f"CUDA graphs cannot be recorded here ({_first_line(problem)})"
    return "" if drift < MAX_DRIFT else f"CUDA graphs of steps miss them by {drift:.2g} on this device"


def replay_drift(step: Step, recorder: Callable[[torch.device], Recorder]) -> float:
    """Return the distance between weights after replayed steps and after plain ones, over that to the first.

    Raises:
        RuntimeError: Steps cannot be recorded.
    """
    plain, recorded = (_small(step) for _ in range(2))
    first = [p.detach().clone() for p in plain.network.parameters()]
    replay = Replay(recorded, recorder(step.device), GROUP)
    _run(Replay(plain), 1)
    _run(replay, GROUP)
    if recorded.notices:
        raise RuntimeError(recorded.notices[0])
    ends = (step.network.state_dict().values() for step in (recorded, plain))
    distances = [((a - b).norm(), (b - c).norm()) for a, b, c in zip(*ends, first, strict=True)]
    apart, gone = (torch.stack(found).norm() for found in zip(*distances, strict=True))
    return float(apart / gone)


def _small(step: Step) -> Step:
    """Return the same step on a small network, always the same."""
    model = replace(step.network.config, num_layers=min(2, step.network.config.num_layers))
    network = new_network(model, VOCAB_SIZE).to(step.device)
    return Step(network, replace(step.training, batch_size=ROWS), step.device, path=step.path)


def _run(replay: Replay, group: int) -> None:
    state: NetworkState = replay.step.network.initial_state(ROWS)
    windows = []
    for seed in range(STEPS):
        ids = _random_ids(seed, replay.step.device)
        windows.append(Window(ids[:, :-1], ids[:, 1:], False, seed, replay.step.training.learning_rate))
        if len(windows) == group:
            state = replay(windows, state).state
            windows = []


def _random_ids(seed: int, device: torch.device) -> Tensor:
    """Return ids without a boundary, (B, T + 1)."""
    noise = torch.Generator().manual_seed(seed)
    return torch.randint(1, VOCAB_SIZE, (ROWS, LENGTH + 1), generator=noise).to(device)


def _first_line(problem: Exception) -> str:
    return str(problem).strip().partition("\n")[0]
