"""How a network is taught: one loop, methods that map a batch to losses, and recipes."""
