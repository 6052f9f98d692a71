"""Find cerebral microbleeds on brain MRI: the library behind every way of use."""
