"""The REST client against a stand-in for TF Serving on loopback."""

import http.server
import importlib.util
import json
import pathlib
import socket
import subprocess
import sys
import threading

import numpy as np
import PIL.Image
import pytest

from kdmlc_tf.data import images

CLIENT = pathlib.Path(__file__).parents[2] / "tools" / "serve_client.py"
SPEC = importlib.util.spec_from_file_location("serve_client", CLIENT)
serve_client = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(serve_client)


def metadata(channels):
    """TF Serving's answer to GET .../metadata, as far as it concerns the input."""
    dims = [{"size": str(size), "name": ""} for size in (-1, -1, -1, channels)]
    images = {"dtype": "DT_UINT8", "tensor_shape": {"dim": dims, "unknown_rank": False}}
    signatures = {"serving_default": {"inputs": {"images": images}}}
    return {
        "model_spec": {"name": "student", "version": "1"},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


class Stub(http.server.BaseHTTPRequestHandler):
    """Answers 0 where the first pixel is dark, 1 where bright; keeps what it was sent."""

    def do_GET(self):
        self.answer(
            200 if self.path == "/v1/models/student/metadata" else 404, self.server.metadata
        )

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, request))
        if self.server.refusal:
            self.answer(400, {"error": self.server.refusal})
            return
        predictions = [
            {
                "probabilities": [0.25, 0.75] if image[0][0][0] > 127 else [0.875, 0.125],
                "class_id": int(image[0][0][0] > 127),
                "class_name": ["dunkel", "hell ☀"][image[0][0][0] > 127],
            }
            for image in request["instances"]
        ]
        self.answer(200, {"predictions": predictions})

    def answer(self, status, content):
        body = json.dumps(content, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    # A proxy configured for the machine must not be asked for loopback.
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    stub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    stub.metadata, stub.requests, stub.refusal = metadata(3), [], None
    thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stub
    stub.shutdown()
    thread.join()
    stub.server_close()


def save(path, pixels):
    PIL.Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return str(path)


def run(server, *arguments):
    return serve_client.main(["--host=127.0.0.1", f"--port={server.server_port}", *arguments])


def test_prints_the_class_of_each_file(server, tmp_path, capsys):
    dark = save(tmp_path / "dark.png", np.full([2, 3, 3], [1, 2, 3]))
    bright = save(tmp_path / "bright.png", np.full([5, 4, 3], 250))
    assert run(server, dark, bright) == 0
    assert capsys.readouterr().out == f"{dark}\tdunkel\t0.8750\n{bright}\thell ☀\t0.7500\n"
    (path, first), (_, second) = server.requests
    assert path == "/v1/models/student:predict"
    assert first == {
        "signature_name": "serving_default",
        "instances": [[[[1, 2, 3]] * 3] * 2],
    }
    assert np.shape(second["instances"]) == (1, 5, 4, 3)


@pytest.mark.parametrize(
    ("channels", "pixels", "sent"),
    [
        (3, [[7, 8]], [[[7, 7, 7], [8, 8, 8]]]),
        (1, [[7, 8]], [[[7], [8]]]),
        (1, [[[255, 255, 255], [0, 0, 0]]], [[[255], [0]]]),
        (3, [[[9, 8, 7, 0]]], [[[9, 8, 7]]]),
    ],
)
def test_files_get_the_models_number_of_channels(server, tmp_path, channels, pixels, sent):
    server.metadata = metadata(channels)
    assert run(server, save(tmp_path / "image.png", pixels)) == 0
    assert server.requests[0][1]["instances"] == [sent]


@pytest.mark.parametrize("form", ["turned.png", "turned.jpg", "grey16.png", "grey16.tif"])
def test_files_are_read_as_training_reads_them(tmp_path, form):
    rng = np.random.default_rng(0)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # Orientation: to be turned by 90 degrees clockwise.
    if form.startswith("grey16"):
        image = PIL.Image.fromarray(rng.integers(0, 2**16, (4, 6), np.uint16))
    else:
        image = PIL.Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8))
    image.save(tmp_path / form, exif=exif)
    trained_on = images.decode((tmp_path / form).read_bytes()).numpy()
    read = serve_client.read_image(tmp_path / form, 3)
    assert read.shape == trained_on.shape
    np.testing.assert_allclose(read.astype(int), trained_on, atol=3 if form[-3:] == "jpg" else 0)


def test_what_the_server_refuses_is_said(server, tmp_path, capsys):
    server.refusal = "Shape of tensor\n is not compatible"
    assert run(server, save(tmp_path / "image.png", np.zeros([2, 2, 3]))) == 2
    error = capsys.readouterr().err
    assert "student:predict answered 400: Shape of tensor is not compatible\n" in error
    assert run(server, "--model=teacher", "any.png") == 2
    assert "/v1/models/teacher/metadata answered 404" in capsys.readouterr().err


def test_files_that_are_no_images(server, tmp_path, capsys):
    (tmp_path / "text.png").write_text("not an image")
    for name in ("text.png", "missing.png"):
        assert run(server, str(tmp_path / name)) == 2
        assert f"{name} cannot be read as an image" in capsys.readouterr().err
    assert server.requests == []


@pytest.mark.parametrize(
    ("kind", "limit", "sentence"),
    [
        (np.uint8, 7, "cannot be read as an image: Image size (24 pixels) exceeds limit"),
        (np.int32, 1000, "has pixels of 32 bits: store it with 8 or 16."),
        (np.float32, 1000, "has pixels of 32 bits: store it with 8 or 16."),
    ],
)
def test_images_that_training_refuses(server, tmp_path, capsys, monkeypatch, kind, limit, sentence):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
    PIL.Image.fromarray(np.zeros((4, 6), kind)).save(tmp_path / "image.tif")
    assert run(server, str(tmp_path / "image.tif")) == 2
    assert f"image.tif {sentence}" in capsys.readouterr().err
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"metadata": {"signature_def": {"signature_def": {}}}}, "does not take images"),
        (["something else"], "does not take images"),
        (metadata(4), "takes 4 channels"),
    ],
)
def test_a_model_of_another_kind(server, capsys, answer, message):
    server.metadata = answer
    assert run(server, "any.png") == 2
    assert message in capsys.readouterr().err


def test_no_server_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as reserved:
        # Bound but not listening: connections are refused, and nobody else gets the port.
        reserved.bind(("127.0.0.1", 0))
        arguments = ["--host=127.0.0.1", f"--port={reserved.getsockname()[1]}", "any.png"]
        assert serve_client.main(arguments) == 2
    output = capsys.readouterr()
    assert "cannot be reached" in output.err and output.err.count("\n") == 1
    assert output.out == ""


def test_as_a_program_without_tensorflow(server, tmp_path):
    image = save(tmp_path / "bright.png", np.full([2, 2, 3], 250))
    program = (
        "import runpy, sys; sys.modules['tensorflow'] = sys.modules['kdmlc_tf'] = None; "
        f"runpy.run_path({str(CLIENT)!r}, run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program]
        + ["--host=127.0.0.1", f"--port={server.server_port}", image],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, f"{image}\thell ☀\t0.7500\n"), result.stderr
