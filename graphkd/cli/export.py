"""Export a saved student as an ONNX model.

    graphkd export student.safetensors --out student.onnx

The student is a file of `StudentClassifier.save`. The model says of itself what it takes and gives, see
`StudentClassifier.to_onnx`.
"""

from __future__ import annotations

from pathlib import Path

from graphkd.students.classifier import StudentClassifier
from kdlosses.cli.parser import Parser


def main(arguments: list[str] | None = None) -> None:
    """Load the student and write the model."""
    parser = Parser(__doc__, "graphkd export")
    parser.add_argument("student", type=Path, help="file of a student, .safetensors")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX model; one that exists is not replaced")
    args = parser.parse_args(arguments)
    if args.out.exists():
        parser.error(f"{args.out} exists; remove it or choose another name")
    if args.student.is_dir():
        parser.error(f"{args.student} is a folder; name one file of a student, such as {args.student}/NAME.safetensors")
    StudentClassifier.load(args.student).to_onnx(args.out)
    print(f"{args.out}: the student of {args.student}")
