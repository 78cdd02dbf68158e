# Half of each batch is changed, by little, so that student and teacher disagree; the teacher is asked about it.
_base_ = "../kl/digits.py"
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="hard", bound=0.5)])]
