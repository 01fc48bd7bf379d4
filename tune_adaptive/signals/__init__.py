"""What the schedule hears, and what is recorded beside it."""
