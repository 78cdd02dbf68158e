# Plain distillation, from a teacher that was trained to tell more than the labels.
_base_ = "../kl/digits.py"
model = dict(teacher="{{fileDirname}}/teacher_digits.py")
