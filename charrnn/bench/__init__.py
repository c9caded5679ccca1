"""How fast this machine runs charrnn, beside stock PyTorch and beside what the machine can do."""
