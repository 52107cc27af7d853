"""The compiled pricing kernels: objective, search, Greeks."""
