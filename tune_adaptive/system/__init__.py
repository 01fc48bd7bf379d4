"""What every room stands on: the console, files, interrupts, packages, the user."""
