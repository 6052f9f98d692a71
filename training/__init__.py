"""Simulate, train and export; never imported by the library."""
