"""What was asked, checked and frozen as a plan."""
