"""What the author of a plug-in reads: spaces, costs, families, trials, evaluations, strategies, errors."""
