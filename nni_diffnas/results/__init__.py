"""What a search has found: read, judged, exported, described."""
