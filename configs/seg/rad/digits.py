# A fifth of the scenes, those that the student doubts, in four rounds; the teacher is asked about no other.
_base_ = "../kl/digits.py"
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="rad", budget=0.2, look=256)])]
