"""Text from a trained network: how a character is drawn, what draws it fast, and the text of it."""

from charrnn.sampling.choice import SamplingConfig, next_probabilities
from charrnn.sampling.speaker import Speaker, round_network, until

__all__ = ["SamplingConfig", "Speaker", "next_probabilities", "round_network", "until"]
