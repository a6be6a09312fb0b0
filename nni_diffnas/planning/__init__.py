"""What a search needs and a user need not say: preset, length of the trials, their number, how many at a time."""
