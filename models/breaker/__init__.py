"""Circuit breakers: of a product, its family and the catalogue, and their evidence."""
