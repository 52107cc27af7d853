"""The same tape under several policies, and what caused a decision."""
