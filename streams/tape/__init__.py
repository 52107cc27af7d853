"""Where tapes come from: files, folders, Kafka, source topics; and where they are kept."""
