"""Asks a served student what images show: python tools/serve_client.py IMAGE [IMAGE ...].

Prints one line per image: file, class name, probability. The server is TensorFlow Serving with its
REST port open. Needs only Pillow and NumPy, neither TensorFlow nor kdmlc_tf, so this one file can
be copied to wherever the images are.
"""

import argparse
import http.client
import io
import json
import sys
import urllib.error
import urllib.request

import numpy as np
import PIL.Image

MODES = {1: "L", 3: "RGB"}


class ClientError(Exception):
    """What went wrong, in one sentence for the user."""


class ServedModel:
    """A classifier behind TF Serving's REST interface.

    Args:
      host, port: where the server listens.
      model: name under which the classifier is served.
      timeout: seconds to wait for each answer.
    """

    def __init__(self, host="localhost", port=8501, model="student", timeout=30.0):
        self._url = f"http://{host}:{port}/v1/models/{model}"
        self._timeout = timeout

    def channels(self) -> int:
        """Colour channels the classifier takes, from its signature: 1 or 3.

        Raises:
          ClientError: the server cannot be reached, or the model does not take images.
        """
        metadata = self._answer("/metadata")
        try:
            signatures = metadata["metadata"]["signature_def"]["signature_def"]
            dims = signatures["serving_default"]["inputs"]["images"]["tensor_shape"]["dim"]
            channels = int(dims[3]["size"])
        except (KeyError, IndexError, TypeError, ValueError):
            raise ClientError(f"The model at {self._url} does not take images.") from None
        if channels not in MODES:
            raise ClientError(f"The model at {self._url} takes {channels} channels, not 1 or 3.")
        return channels

    def predict(self, image) -> dict:
        """The answer for one image.

        Args:
          image: uint8 [height, width, channels], of any height and width.

        Returns:
          {"class_name": text, "class_id": int, "probabilities": list of floats}.

        Raises:
          ClientError: the server cannot be reached or refuses the image.
        """
        request = {"signature_name": "serving_default", "instances": [image.tolist()]}
        answer = self._answer(":predict", json.dumps(request).encode())
        try:
            (prediction,) = answer["predictions"]
            return {key: prediction[key] for key in ("class_name", "class_id", "probabilities")}
        except (KeyError, TypeError, ValueError):
            raise ClientError(
                f"The model at {self._url} does not answer as a classifier exported by kdmlc_tf."
            ) from None

    def _answer(self, path, body=None):
        """The JSON that the server answers; a POST if there is a body, else a GET."""
        url = self._url + path
        request = urllib.request.Request(
            url, data=body, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise ClientError(f"{url} answered {error.code}: {_reason(error)}") from None
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            raise ClientError(f"{url} cannot be reached: {cause}.") from None
        except ValueError:
            raise ClientError(f"{url} did not answer with JSON: is it TF Serving?") from None


def read_image(path, channels) -> np.ndarray:
    """The image file as uint8 [height, width, channels], as kdmlc_tf reads it to train on.

    An orientation that is only noted in a JPEG or PNG is not applied; of 16 bits the upper 8 are
    kept.

    Raises:
      ClientError: the file is missing, no image, or one of 32 bits or 179 million pixels.
    """
    try:
        with open(path, "rb") as file:
            data = io.BytesIO(file.read())  # a TIFF that Pillow opens by its name is not turned
        with PIL.Image.open(data) as image:
            sixteen = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG")
            if image.mode in ("I", "F") and not sixteen:
                raise ClientError(f"{path} has pixels of 32 bits: store it with 8 or 16.")
            if sixteen:
                upper = (np.asarray(image) >> 8).astype(np.uint8)
                pixels = np.asarray(PIL.Image.fromarray(upper).convert(MODES[channels]))
            else:
                pixels = np.asarray(image.convert(MODES[channels]))
    except (OSError, PIL.Image.DecompressionBombError) as error:
        raise ClientError(f"{path} cannot be read as an image: {error}.") from None
    return pixels.reshape(*pixels.shape[:2], channels)


def main(arguments=None) -> int:
    """Prints the class of each image; returns the exit status, 2 after an error."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="file that Pillow can read")
    parser.add_argument("--host", default="localhost", help="where the server runs")
    parser.add_argument("--port", type=int, default=8501, help="the server's REST port")
    parser.add_argument("--model", default="student", help="name the model is served under")
    options = parser.parse_args(arguments)
    model = ServedModel(options.host, options.port, options.model)
    try:
        channels = model.channels()
        for path in options.images:
            prediction = model.predict(read_image(path, channels))
            probability = max(prediction["probabilities"])
            print(f"{path}\t{prediction['class_name']}\t{probability:.4f}")
    except ClientError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _reason(error):
    """TF Serving's explanation from the body of an HTTP error, on one line."""
    text = error.read().decode(errors="replace")
    try:
        text = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        text = text or error.reason
    return " ".join(str(text).split())


if __name__ == "__main__":
    sys.exit(main())
