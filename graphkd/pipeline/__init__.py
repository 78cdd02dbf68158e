"""From a graph to a student: `distill`, and the steps that it is made of."""
