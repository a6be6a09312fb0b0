"""Diffusion-guided search: a diffusion model over architectures, steered by surrogates of what the search has learned.

Notation, shared by all modules of this folder
    n, L, V        batch, labels (rows), values (columns: the largest number of values of a label)
    x0             one-hot matrix scaled to [-1, 1]: chosen value +1, others -1; the row of an absent label is all -1
    x, sigma       ``x = x0 + sigma * noise``: the variance-exploding forward process
    p              ``n x L x V`` probabilities of the values; what a row lacks to one is the probability of absence
    tilt           what guidance adds to the logits of ``p``
"""
