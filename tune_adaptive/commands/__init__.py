"""The commands besides the search."""
