"""Files of surfaces: the same triangles from every format, and damaged files."""

import struct

import numpy as np
import pytest

from diffjax.io.surfaces import triangles

VERTICES = [[0.0, 0, 0], [2, 0, 0], [2, 3, 0], [0, 3, 0.5], [1, 1, 4]]
FACES = [[0, 1, 2, 3], [0, 1, 4], [4, 2, 3]]
CORNERS = np.array(VERTICES)[[[0, 1, 2], [0, 2, 3], [0, 1, 4], [4, 2, 3]]]

OBJ = """# a comment
mtllib a.mtl
o thing
v 0 0 0
v 2 0 0 1.0
v 2 3 0
v 0 3 .5
vn 0 0 1
v 1 1 4
g side
f 1 2 3 4
f 1/7/1 2/8/1 5/9/1
f -1//1 -3//1 \\
 -2//1
"""


def ply(form, count="uchar"):
    """The same surface as PLY, with further properties and an element to skip."""
    header = f"""ply
format {form} 1.0
comment a comment
element vertex 5
property uchar red
property float x
property double y
property float z
element edge 1
property int first
property int second
element face 3
property float weight
property list {count} int vertex_indices
end_header
"""
    if form == "ascii":
        lines = [" ".join(map(str, (7, *v))) for v in VERTICES] + ["0 1"]
        lines += [" ".join(map(str, (0.5, len(f), *f))) for f in FACES]
        return (header + "\n".join(lines) + "\n").encode()
    order = "<" if "little" in form else ">"
    body = b"".join(struct.pack(order + "Bfdf", 7, *v) for v in VERTICES)
    body += struct.pack(order + "ii", 0, 1)
    body += b"".join(struct.pack(f"{order}fB{len(f)}i", 0.5, len(f), *f) for f in FACES)
    return header.encode() + body


@pytest.mark.parametrize("form", ["obj", "ascii", "binary_little_endian", "binary_big_endian"])
def test_every_format_gives_the_same_triangles(tmp_path, form):
    """A face would lose a corner, or take another one's."""
    path = tmp_path / ("a.obj" if form == "obj" else "a.ply")
    path.write_bytes(OBJ.encode() if form == "obj" else ply(form))
    np.testing.assert_array_equal(triangles(path), CORNERS)


@pytest.mark.parametrize(
    ("name", "contents", "part"),
    [
        ("a.stl", b"", "unknown ending; known: .obj, .ply"),
        ("a.obj", b"v 0 0 0\n", "has no faces"),
        ("a.obj", b"v 0 0 0\nf 1 2 3\n", "a corner that is none of 1 vertices"),
        ("a.obj", b"v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "is not finite"),
        ("a.obj", b"v 0 0 zero\n", "cannot be read as .obj"),
        ("a.obj", b"v 0 0\nv 1 0\nf 1 2 1\n", "cannot be read as .obj"),
        ("a.ply", b"plyable\n", "no header of PLY"),
        ("a.ply", ply("ascii")[:-9], "cannot be read as .ply"),
        ("a.ply", ply("binary_little_endian")[:-1], "cannot be read as .ply"),
    ],
)
def test_what_is_no_surface_is_refused_by_name(tmp_path, name, contents, part):
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(ValueError, match=rf"{name}: .*{part}"):
        triangles(tmp_path / name)
