"""Tiered quotes: remembered, by the light model, by the full engine."""
