"""Accounts: who signs in, tokens, sessions, and what ends them."""
