"""Which run is next, and what a result means."""
