"""The engine. Nothing outside this folder imports ray."""
