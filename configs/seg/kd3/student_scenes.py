# The student, whose batches have a copy of each image with another distribution; so have those of its control.
_base_ = "../plain/semantic_fpn_r18_w16_scenes.py"
model = dict(data_preprocessor=dict(type="densekd.MixDistributionPreProcessor"))
