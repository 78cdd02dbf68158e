"""A cache of frozen teachers: outputs once per image, replayed under the student's crops, flips and resizes."""
