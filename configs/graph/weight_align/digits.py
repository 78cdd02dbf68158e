_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(type="sage", known=[0, 1, 2, 3, 4])  # the digits 5 to 9 are new to the student
methods = [
    dict(type="incremental", old=5, memory=2),
    dict(type="weight_align", old=5, method=dict(type="incremental", old=5, memory=2)),
]
