# LPLD: proposals that the teacher is not sure of teach as well, softly.
_base_ = "../mean_teacher/digits.py"
model = dict(type="densekd.LPLD")
