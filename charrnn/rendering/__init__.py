"""Findings become something to look at; no numbers are made here."""
