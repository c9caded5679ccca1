"""Train a recurrent character language model, hear it speak, and look inside it."""

__version__ = "0.1.0"
