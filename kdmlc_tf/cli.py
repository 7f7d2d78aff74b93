"""Flags from the configuration's fields, and errors as sentences: shared by the command lines."""

import dataclasses
import io
import os
import sys
import tempfile
import typing

from absl import app, flags, logging

from kdmlc_tf import config as config_lib
from kdmlc_tf.data import noise, own
from kdmlc_tf.errors import InputError

FLAGS = flags.FLAGS
_DEFINE = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


def define_config_flags(values=FLAGS):
    """One flag for every field of Config; unset flags are None, so that a preset can speak.

    Args:
      values: the absl FlagValues to add them to.
    """
    for field in dataclasses.fields(config_lib.Config):
        kinds = [k for k in typing.get_args(field.type) if k is not type(None)] or [field.type]
        choices = field.metadata.get("choices")
        help_text = field.metadata["help"] + (f" One of: {', '.join(choices)}." if choices else "")
        if field.default is not None:
            help_text += f" Default: {_defaults(field)}."
        _DEFINE[kinds[0]](field.name, None, help_text, flag_values=values)


def _defaults(field):
    """A setting's default, and those of the methods and data sets that have others."""
    presets = {**config_lib.METHOD_PRESETS, **config_lib.PRESETS}
    others = [f"{name}: {own[field.name]}" for name, own in presets.items() if field.name in own]
    return "; ".join([str(field.default), *others])


def config_of(arguments):
    """The Config that the train command makes of `arguments`, e.g. ["--noise=0.4"].

    Raises:
      InputError: a value outside its range.
      absl.flags.Error: no flag of the configuration, or a value of the wrong kind.
    """
    values = flags.FlagValues()
    define_config_flags(values)
    rest = values(["train", *arguments])[1:]
    if rest:
        raise flags.Error(f"{_unexpected(rest[0])}.")
    return config_from_flags(values)


def config_from_flags(values=FLAGS):
    """The Config that the flags, the presets of method and data set, and the defaults give.

    Args:
      values: the parsed FlagValues of `define_config_flags`.

    Raises:
      InputError: a value outside its range.
    """
    names = [field.name for field in dataclasses.fields(config_lib.Config)]
    given = {name: values[name].value for name in names if values[name].value is not None}
    if "data_dir" in given:
        given["data_dir"] = os.path.abspath(given["data_dir"])
    if "noise_type" in given:
        given["noise_type"] = noise.located(given["noise_type"])
    dataset = given.get("dataset", config_lib.Config.dataset)
    preset = config_lib.OWN if own.is_own(dataset) else config_lib.PRESETS.get(dataset, {})
    if own.is_own(dataset):
        given["dataset"], given["data_dir"] = own.located(dataset, given.get("data_dir"))
    return config_lib.with_presets(preset, given)


def placed(config):
    """The configuration, its data where --data_dir says."""
    return dataclasses.replace(config, data_dir=FLAGS.data_dir or config.data_dir)


def run(main):
    """Parses the flags, calls `main()` and exits; what the user got wrong is told in a sentence.

    Exit status: main's (None: 0); 2 for wrong input; 130 after Ctrl-C.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a notebook's is another
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may be no text
    # Keras and TensorFlow warn through absl; progress is printed by the programs themselves.
    logging.set_verbosity(logging.WARNING)
    try:
        app.run(lambda argv: main(), flags_parser=_parse)
    except InputError as error:
        _exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def import_tensorflow(config=None):
    """Imports TensorFlow and looks for devices, but without the lines it prints where no GPU is.

    They come from its C++ library, before any of its settings can be made. TF_CPP_MIN_LOG_LEVEL=0
    in the environment lets them through.

    Args:
      config: the Config to train; its strategy connects workers, which must come first of all.
    """
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0":
        return
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
            if config is not None:
                from kdmlc_tf import distribution

                distribution.make_strategy(config.strategy, config.tpu)
        except InputError:
            raise
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _parse(argv):
    app.define_help_flags()
    try:
        rest = FLAGS(argv)
    except (flags.Error, UnicodeDecodeError, IsADirectoryError) as error:
        what = str(error).removeprefix("ERROR:: ")
        if not isinstance(error, flags.Error):
            what = f"The file of --flagfile cannot be read as text: {what}."
        _exit(f"{what} (--help lists the flags.)")
    if len(rest) > 1:
        _exit(f"{_unexpected(rest[1])} (see --help).")
    return rest


def _unexpected(argument):
    return f"Unexpected argument {argument!r}; flags are written --name=value"


def _exit(sentence):
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)
