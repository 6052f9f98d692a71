"""Data sets of the field, brought to one layout."""
