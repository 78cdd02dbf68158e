_base_ = "../../_base_/graph.py"
data = "digits"
# The teacher knows the digits 0 to 4; 5 to 9 are new to the student, which keeps two labels of each old one.
# The control is told all labels of all digits: what there was to lose.
teacher = dict(type="sage", known=[0, 1, 2, 3, 4])
methods = [
    dict(type="incremental", old=5, memory=2),
    dict(type="weight_align", old=5, method=dict(type="incremental", old=5, memory=2)),
]
