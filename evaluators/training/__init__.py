"""How a denoising network is trained: batches, losses, optimiser, recipe, where and how torch computes."""
