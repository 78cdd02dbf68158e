"""Teachers that others trained, and what they teach without labels: torch alone, until a teacher needs its own library."""
