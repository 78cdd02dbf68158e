# The synthetic world half a second before and now: each point of the LiDAR has its age as a fifth number.
_base_ = "world.py"
train_dataloader = dict(dataset=dict(past=0.5))
val_dataloader = dict(dataset=dict(past=0.5))
test_dataloader = dict(dataset=dict(past=0.5))
