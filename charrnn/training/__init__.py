"""Training: plan, optimizers, schedules, trainer."""
