"""Simulated shops and markets whose truth is known."""
