"""Inputs of models: geometry on the ground, batches of several sensors, image normalisation. Plain tensors."""
