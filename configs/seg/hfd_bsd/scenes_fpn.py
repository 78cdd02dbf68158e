# HFD and BSD: the student and a transformer of its size teach each other, in the table of convolutions.
_base_ = "../../_base_/tables/scenes_fpn.py"
model = dict(method="hfd_bsd", teacher="{{fileDirname}}/../plain/segformer_mit_w16_scenes.py")
