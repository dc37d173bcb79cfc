"""Turns a judged run into HTML, JSON, JUnit and Markdown."""
