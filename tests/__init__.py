"""Tests: unit, integration, mutants, interop, benchmarks."""
