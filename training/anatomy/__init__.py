"""Training the network that finds the brain and its parts."""
