# TransKD with embedding assistants.
_base_ = "../transkd/digits.py"
model = dict(method="transkd_ea")
