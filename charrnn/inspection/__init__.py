"""Inspection: record a run over text and find the neurons that track something."""
