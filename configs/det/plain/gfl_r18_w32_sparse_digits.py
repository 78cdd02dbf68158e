# The teacher's network, half width, trained such that the scales of channels that it can do without go to 0.
_base_ = "gfl_r18_w32_digits.py"
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="sparse_scales")])]
