"""Pictures a run's TensorBoard: python tools/tensorboard_screenshot.py --run=DIR --output=PNG.

Starts TensorBoard on the run's logs and Chromium without a window, on this machine only, and ends
both. The page "overview" is the time series with four cards pinned: how well the student does, how
well the corrector, and its two pictures.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.parse

from kdmlc_tf.monitoring import server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAGES = ("overview", "timeseries", "scalars", "images", "graphs", "hparams")
PINNED_SCALARS = ("student/test_accuracy", "corrector/pseudo_label_accuracy")
PINNED_IMAGES = ("corrector/noise_matrix", "corrector/labels")


def fragment(page, run):
    """What follows TensorBoard's address for a page; `run` is the one whose images are pinned."""
    if page != "overview":
        return f"#{page}"
    image = {"plugin": "images", "runId": f"defaultExperimentId/{run}", "sample": 0}
    cards = [{"plugin": "scalars", "tag": tag} for tag in PINNED_SCALARS]
    cards += [{**image, "tag": tag} for tag in PINNED_IMAGES]
    query = urllib.parse.urlencode({"pinnedCards": json.dumps(cards), "smoothing": 0})
    return f"?{query}#timeseries"


def screenshot(address, output, *, browser, width, height, seconds):
    """Writes a PNG of a page.

    Args:
      address: URL on this machine.
      output: path of the PNG.
      browser: the browser's program.
      width: of the window, in pixels.
      height: of the window, in pixels.
      seconds: time the page has to load and draw, by its own clock.

    Raises:
      RuntimeError: the browser wrote no picture.
    """
    output = pathlib.Path(output).resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
        command += ["--no-first-run", "--disable-background-networking", "--no-proxy-server"]
        command += ["--disable-component-update", "--disable-sync", "--hide-scrollbars"]
        command += [f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        # Without WebGL, TensorBoard draws on the page itself, not beside it by another clock.
        command += ["--disable-3d-apis"]
        command += [f"--virtual-time-budget={1000 * seconds}", f"--screenshot={output}", address]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            _, errors = process.communicate(timeout=60 + 5 * seconds)
        except subprocess.TimeoutExpired:
            errors = b"it did not end in time"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if not output.exists():
        raise RuntimeError(f"{browser} wrote no picture: {errors.decode()[-1000:]}")


def parse(arguments):
    """The command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", required=True, help="folder of the run (or of several)")
    parser.add_argument("--output", required=True, help="the PNG to write")
    parser.add_argument("--page", default="overview", choices=PAGES)
    parser.add_argument("--width", type=int, default=1500, help="pixels")
    parser.add_argument("--height", type=int, default=1100, help="pixels")
    parser.add_argument("--seconds", type=int, default=20, help="time the page has to draw")
    parser.add_argument("--browser", help=f"default: the first of {', '.join(BROWSERS)}")
    settings = parser.parse_args(arguments)
    settings.browser = settings.browser or next(filter(shutil.which, BROWSERS), None)
    if not settings.browser:
        parser.error(f"no browser found; install one of {', '.join(BROWSERS)} or give --browser")
    logs = list(pathlib.Path(settings.run).rglob("events.out.tfevents.*"))
    logs.sort(key=lambda path: (len(path.parts), path))  # an audit's lie deeper
    if not logs:
        parser.error(f"there are no TensorBoard logs in {settings.run}")
    settings.first_run = logs[0].parent.relative_to(settings.run).as_posix()
    return settings


def main(arguments=None):
    """Returns the exit status."""
    settings = parse(arguments)
    with server.tensorboard(settings.run) as address:
        screenshot(
            address + fragment(settings.page, settings.first_run),
            settings.output,
            browser=settings.browser,
            width=settings.width,
            height=settings.height,
            seconds=settings.seconds,
        )
    print(f"{settings.output}: {pathlib.Path(settings.output).stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
