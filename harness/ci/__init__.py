"""The CI job: selected scenarios within a budget, one verdict for all of them."""
