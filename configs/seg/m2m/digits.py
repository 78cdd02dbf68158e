# The stages of a ResNet-18 are taught in the place of those of a ResNet-34 of the same widths, then trained together.
_base_ = "../kl/digits.py"
model = dict(teacher="{{fileDirname}}/../plain/semantic_fpn_r34_w16_digits.py")
custom_hooks = [dict(type="densekd.Policies", policies=[dict(type="m2m", steps=50)])]
