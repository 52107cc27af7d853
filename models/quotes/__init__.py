"""Quotes: prices for what has no published price at hand."""
