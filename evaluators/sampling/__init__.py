"""How a trained network draws images."""
