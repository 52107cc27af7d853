"""Pure models: demand, returns, price, guards, breaker and the fold. No clock, no I/O, no Kafka."""
