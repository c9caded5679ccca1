"""What may be another when a run goes on, and what may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charrnn.config import Config, setting_names
from charrnn.errors import ConfigError
from charrnn.events import ChangeEvent

BUDGETS = ("training.epochs", "training.steps", "training.minutes")
MAY_CHANGE = (
    *BUDGETS,
    "training.num_evals",
    "training.patience",
    "training.learning_rate",
    "training.schedule",
    "training.warmup_fraction",
    "training.weight_decay",
    "training.l2",
    "training.activation_l2",
    "training.temporal_l2",
    "training.grad_clip",
    "training.grad_clip_value",
    "training.recompute",
)
"""How long and how fast a run goes on; all else shapes what it has already: network, text, moments, masks."""


PLANNED = ("training.num_evals", "training.learning_rate", "training.weight_decay")
"""What is never open once a run has begun."""


def changed_config(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return the settings with which a run goes on.

    A budget that is named takes the place of all that the run had.

    Args:
        config: Those it had.
        settings: ``"section.name"`` to value, as for a new run.

    Raises:
        ConfigError: A setting has no valid value, may not change, or no budget would be left.
    """
    if not settings:
        return config
    dropped = BUDGETS if any(name in settings for name in BUDGETS) else ()
    wanted = config.updated({**dict.fromkeys(dropped), **settings})
    fixed = [name for name in _differing(config, wanted) if name not in MAY_CHANGE]
    if fixed:
        before, after = (_value(of, fixed[0]) for of in (config, wanted))
        raise ConfigError(
            f"`{fixed[0]}` is `{before}` in this run and cannot become `{after}`",
            "what can change: " + ", ".join(name.partition(".")[2] for name in MAY_CHANGE),
        )
    if all(_value(wanted, name) is None for name in BUDGETS):
        raise ConfigError("the run would have no end", "give it `--epochs`, `--steps` or `--minutes`")
    planned = [name for name in PLANNED if _value(wanted, name) is None]
    return wanted.updated({name: _value(config, name) for name in planned})


def changes_of(before: Config, after: Config, step: int) -> tuple[ChangeEvent, ...]:
    """Return what differs between the settings of a run before and after a step."""
    names = _differing(before, after)
    return tuple(ChangeEvent(step, name, _value(before, name), _value(after, name)) for name in names)


def moves_of(before: Any, now: Mapping[str, Any], step: int) -> tuple[ChangeEvent, ...]:
    """Return what differs between the places that a run was trained on before and after a step.

    Args:
        before: What the run's file says, which anybody may have written; older ones say nothing.
        now: As from ``telling.place_of``.
        step: After which it goes on.
    """
    before = before if isinstance(before, dict) else {}
    known = {name: before[name] for name in now if type(before.get(name)) is type(now[name])}
    return tuple(ChangeEvent(step, name, was, now[name]) for name, was in known.items() if was != now[name])


def _differing(before: Config, after: Config) -> list[str]:
    return [name for name in setting_names() if _value(before, name) != _value(after, name)]


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config
