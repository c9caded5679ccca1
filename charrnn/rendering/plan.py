"""What training is about to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from charrnn.config import Config
from charrnn.events import PlanEvent
from charrnn.rendering.tables import table

LEVERS = {
    "model": (
        "input_dropout",
        "output_dropout",
        "dropout_kind",
        "weight_drop",
        "zoneout",
        "skip_connections",
        "init",
        "forget_init",
    ),
    "training": (
        "schedule",
        "l2",
        "activation_l2",
        "temporal_l2",
        "grad_clip",
        "grad_clip_value",
        "averaging",
        "seq_len_start",
        "random_seq_len",
    ),
}
"""Settings that the plan's line names where they are not at their defaults."""


def plan_line(plan: PlanEvent) -> str:
    """Return the plan in one sentence."""
    model, training = plan.config["model"], plan.config["training"]
    return (
        f"{model['cell']} {model['num_layers']}×{model['hidden_size']} ({plan.params:,} weights, "
        f"{plan.vocab_size} symbols) on {plan.device}: {plan.train_chars:,} characters to train on, "
        f"{plan.val_chars:,} val, {plan.test_chars:,} test; "
        f"batch {training['batch_size']} × {training['seq_len']}, {_update(training)}, "
        f"dropout {model['dropout']:g}{_levers(plan)}; {budget(plan)}"
    )


def _levers(plan: PlanEvent) -> str:
    """Return the levers that are not at their defaults, in words."""
    defaults = Config().to_json()
    changed = {
        name: plan.config[section][name]
        for section, names in LEVERS.items()
        for name in names
        if plan.config[section][name] != defaults[section][name]
    }
    return "".join(f", {name if value is True else f'{name} {value}'}" for name, value in changed.items())


def _update(training: Mapping[str, Any]) -> str:
    if training["readout"] == "ridge":
        return "readout by ridge regression"
    return f"{training['optimizer']} at {training['learning_rate']:g}"


def budget(plan: PlanEvent) -> str:
    """Return the budget in words."""
    training = plan.config["training"]
    given = [
        f"{training[name]:g} {name}" for name in ("minutes", "epochs", "steps") if training[name] is not None
    ]
    return " or ".join(given)


def plan_table(plan: PlanEvent, figures: Mapping[str, float]) -> RenderableType:
    """Return every setting of a run, and what it is expected to need."""
    rows = [(f"{s}.{name}", str(value)) for s, part in plan.config.items() for name, value in part.items()]
    rows += [("weights", f"{plan.params:,}"), ("vocab_size", str(plan.vocab_size)), ("device", plan.device)]
    rows += [
        (f"{name} characters", f"{getattr(plan, f'{name}_chars'):,}") for name in ("train", "val", "test")
    ]
    rows += [
        ("expected memory", f"about {figures['memory_bytes'] / 2**20:,.0f} MiB beyond Python and torch"),
        ("expected time", f"about {figures['seconds'] / 60:,.1f} minutes"),
        ("expected epochs", f"about {figures['epochs']:,.2g}"),
    ]
    return table(["setting", "value"], rows)
