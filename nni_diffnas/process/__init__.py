"""How a Python process of ours behaves: what it imports and prints, which versions it runs, who works beside it."""
