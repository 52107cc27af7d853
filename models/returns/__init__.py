"""Returns: the rate as a curve of price, open cohorts, and what they may still cost."""
