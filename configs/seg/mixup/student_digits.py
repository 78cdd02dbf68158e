# The student, some of whose scenes are mixed with others of the batch; so are those of its control.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(data_preprocessor=dict(type="densekd.MixUpPreProcessor", share=0.41))
