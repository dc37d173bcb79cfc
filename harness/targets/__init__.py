"""Systems under test: what each offers and how its workers are started."""
