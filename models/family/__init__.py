"""Families: products that sell or eat each other, priced together."""
