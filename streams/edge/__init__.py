"""What all that serves prices shares: following topics, the price as others see it."""
