"""Kafka by hand: settings, topics, reading, lag, dead letters, the embedded broker."""
