# A quarter of the scenes at random, in as many steps; labels count a quarter, the teacher, which knows all, 1.75 times.
_base_ = "../kl/digits.py"
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="pruned", keep=0.25)])]
