"""Running the networks."""
