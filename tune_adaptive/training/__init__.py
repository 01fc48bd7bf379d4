"""One run: the loop, its checkpoints, its device, and what is measured beforehand."""
