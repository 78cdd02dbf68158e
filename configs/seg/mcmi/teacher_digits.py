# The teacher, whose predictions are spread within each class in the last fifth of its training.
_base_ = "../plain/semantic_fpn_r18_w32_digits.py"
model = dict(
    decode_head=dict(
        loss_decode=dict(_delete_=True, type="densekd.MCMILoss", lam=0.15, start=0.8, class_weight=[0.1] + 10 * [1.0])
    )
)
