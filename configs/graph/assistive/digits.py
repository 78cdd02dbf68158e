# Two points of each digit, from a tough teacher, which learns them as they are, and a tolerant one, which learns what a
# shape model of 80 per cent of their variance draws. The second student hears of the truth alone.
_base_ = "../../_base_/digits.py"
data = "graphkd.data.digits:landmarks"
teacher = [dict(type="sage", epochs=100), dict(type="sage", epochs=100, soft=0.8)]
student = dict(dropout=0.0)
methods = [
    dict(type="glnn"),
    dict(type="terms", distills=[dict(loss="mse", source="truth")]),
    dict(
        type="terms",
        distills=[dict(loss=dict(type="assistive", share=[0.1, 0.1]), source=["truth", "teacher"])],
    ),
]
