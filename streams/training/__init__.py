"""Learning from a tape."""
