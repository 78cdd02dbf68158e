"""Teachers that others trained, and what they teach without labels: torch alone, but for a teacher's own library."""
