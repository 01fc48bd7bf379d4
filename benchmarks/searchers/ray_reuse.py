"""The usual Ray Tune script with ``reuse_actors=True``: its processes stay, its data do not."""

from ray_function import main

if __name__ == "__main__":
    main(reuse_actors=True)
