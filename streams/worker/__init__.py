"""The worker on Kafka: transport, intake, pricer, outbox, recovery."""
