"""Folding a tape again: lanes, processes, checkpoints, results."""
