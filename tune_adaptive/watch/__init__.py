"""Views of an experiment's events: terminal, notebook, trackers, gauges."""
