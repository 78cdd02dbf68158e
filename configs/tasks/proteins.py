# Whole graphs: enzymes or not; the teacher pools GIN's layers, the student reads descriptors.
_base_ = "nci1.py"
data = "proteins"
