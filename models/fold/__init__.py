"""The fold: what tape records do to the state of their partition."""
