"""The network: cells and what joins them."""
