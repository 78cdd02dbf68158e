# DisWOT: `densekd rank` searches the student that is most like the untrained teacher; what is found is distilled.
_base_ = "../kl/digits.py"
search = dict(
    budget=1_500_000,
    space={
        "model.student.backbone.depth": [18, 34],
        "width": [
            {
                "model.student.backbone.base_channels": width,
                "model.student.backbone.stem_channels": width,
                "model.student.neck.in_channels": [width, 2 * width, 4 * width, 8 * width],
            }
            for width in (4, 8, 12, 16, 24)
        ],
        "head": [
            {
                "model.student.neck.out_channels": width,
                "model.student.decode_head.in_channels": 4 * [width],
                "model.student.decode_head.channels": width,
            }
            for width in (8, 16, 32, 64)
        ],
    },
)
