"""Lossless compression of text by a run's predictions, the same on every machine."""
