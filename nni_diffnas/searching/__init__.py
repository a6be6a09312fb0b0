"""One running search: how it opens, what it remembers, how it ranks, halves, forecasts and shows its progress."""
