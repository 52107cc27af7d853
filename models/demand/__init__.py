"""Demand: elasticity with uncertainty, what else moves sales, and other forecasters."""
