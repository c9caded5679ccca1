"""Recurrent layers, one file per cell."""
