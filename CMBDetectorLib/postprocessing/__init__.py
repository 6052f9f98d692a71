"""From probability to measured lesions."""
