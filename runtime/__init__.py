"""The distributed layer of a chat platform: the system under test."""
