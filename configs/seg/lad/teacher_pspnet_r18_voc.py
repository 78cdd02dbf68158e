# The student's own network, told the label by a fourth channel. Tested, it is told nothing.
_base_ = "../plain/pspnet_r18_voc.py"
model = dict(type="densekd.LabelAssistedEncoderDecoder", backbone=dict(in_channels=4))
