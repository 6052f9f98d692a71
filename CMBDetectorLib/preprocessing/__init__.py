"""From the input image to what the network sees."""
