"""The second stage: a classifier that tells microbleeds from what the networks take for them."""
