"""How a Python process of ours behaves: what it imports when, what it prints where, which versions it runs."""
