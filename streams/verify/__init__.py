"""Proving a published history from its tape."""
