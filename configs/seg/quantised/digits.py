# A student with four bits a weight, trained with them; its teacher has full precision.
_base_ = "../kl/digits.py"
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="quantised", bits=4)])]
