"""`distill` and its steps: train a teacher, train a student, measure."""
