"""Cold start: what is believed of a product before its orders, and how that is learned."""
