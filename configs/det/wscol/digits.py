# WSCoL: the teacher's weak features group the student's strong ones.
_base_ = "../mean_teacher/digits.py"
model = dict(type="densekd.WSCoL", semi_train_cfg=dict(width=64))
