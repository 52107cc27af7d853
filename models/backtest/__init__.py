"""Backtests: what another policy would have priced, and what that would have been worth."""
