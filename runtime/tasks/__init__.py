"""Tasks: answers in the background, their records, stops and owners."""
