"""What is sampled while a scenario runs."""
