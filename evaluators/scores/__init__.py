"""How good drawn images are: feature spaces, distances, curves, scores before any training."""
