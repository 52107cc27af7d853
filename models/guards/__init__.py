"""Guards and the publisher gate: limits that no price may cross."""
