"""Everything that touches files, weights or the network, or may import torch.

Nothing here is imported by `generator.compile`; heavy imports stand inside functions.
"""
