# HFD and BSD: the student and a transformer of its size teach each other, in the CamVid table of convolutions.
_base_ = "../../_base_/tables/camvid_fpn.py"
model = dict(method="hfd_bsd", teacher="{{fileDirname}}/../plain/segformer_mit_w16_camvid_500.py")
