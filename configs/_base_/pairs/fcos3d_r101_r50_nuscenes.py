# FCOS3D, ResNet-101 to ResNet-50.
_base_ = "../../bev/plain/fcos3d_r50_nuscenes.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmdet3d::fcos3d/fcos3d_r101-caffe-dcn_fpn_head-gn_8xb2-1x_nus-mono3d.py",
)
