"""The student, a scikit-learn classifier, with its scaler and file format."""
