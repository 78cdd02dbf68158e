"""The student, a scikit-learn classifier: its scaler and its files."""
