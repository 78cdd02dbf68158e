# BPKD in the CamVid table of transformers. The published weights, 50 and 20, leave a student of 500
# iterations no time for the labels, and its windows are made for larger images: weights and window were chosen among
# five pairs on the last 67 training frames.
_base_ = "../../_base_/tables/camvid_mit.py"
model = dict(method=dict(type="bpkd", edge=1.0, body=3.0, kernel=3, present=True))
