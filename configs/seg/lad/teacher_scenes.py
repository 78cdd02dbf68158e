# The student's own network, told the label by a fourth channel. Tested, it is told nothing.
_base_ = "../plain/semantic_fpn_r18_w16_scenes.py"
model = dict(type="densekd.LabelAssistedEncoderDecoder", backbone=dict(in_channels=4))
