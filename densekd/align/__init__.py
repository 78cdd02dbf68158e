"""Align the taps of student and teacher: channels, size, tokens."""
