"""What is run, with which settings."""
