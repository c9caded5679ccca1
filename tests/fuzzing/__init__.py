"""Hostile files: how good ones are changed, and the functions that must take or refuse what comes of it."""
