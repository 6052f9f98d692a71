"""Model bundles: layout, checks, and where they are found."""
