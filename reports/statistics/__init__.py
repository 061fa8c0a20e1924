"""Tests and intervals over queries: paired, randomised, bootstrapped; how a p is printed."""
