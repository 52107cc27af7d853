"""Decisions in words, tables and pictures."""
