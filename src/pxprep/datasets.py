"""A small, seeded, realistic cohort for examples, tests and benchmarks."""
