"""Zones and regions of the brain by a published scheme, and counts by them."""
