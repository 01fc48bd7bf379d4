"""The embedded data set and the script that makes it."""
