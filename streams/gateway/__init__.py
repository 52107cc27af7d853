"""The HTTP gateway: prices, event streams, feeds, the desk's data, steering."""
