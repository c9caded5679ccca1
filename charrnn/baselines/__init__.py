"""What models without a network need for the same text: counts, an n-gram model, compressors."""

from charrnn.baselines.compressors import compressor_bits, ppmd_bits
from charrnn.baselines.counts import Symbols, unigram_costs, unigram_nats
from charrnn.baselines.ngram import NgramModel, ngram_nats

__all__ = [
    "NgramModel",
    "Symbols",
    "compressor_bits",
    "ngram_nats",
    "ppmd_bits",
    "unigram_costs",
    "unigram_nats",
]
