"""Export, execution and collection of a run; the parts that need jax are skipped without it."""

import importlib.util
import json
import pathlib
import sys

import numpy as np
import pytest

from kdmlc_tf import cli, training
from kdmlc_tf.data import prepared
from kdmlc_tf.errors import InputError

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tools" / "stablehlo"


def tool(name):
    spec = importlib.util.spec_from_file_location(f"stablehlo_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def jobs(**counts):
    return [
        {"run": f"cell/{name}-{k}", "program": name, "epochs": 2, "steps_per_epoch": 10}
        for name, count in counts.items()
        for k in range(count)
    ]


def test_jobs_are_shared_out_by_what_they_cost_each_program_apart():
    execute = tool("execute")
    programs = {
        "long": {"starts": [0, 15], "sizes": [10, 30]},
        "short": {"starts": [0], "sizes": [10]},
    }
    found = execute.shared_out(jobs(long=4, short=3), programs, 3)
    assert [[job["run"] for job in share] for share in found] == [
        ["cell/long-0", "cell/long-2"],
        ["cell/long-1", "cell/long-3"],
        ["cell/short-0", "cell/short-1", "cell/short-2"],
    ]
    assert execute._cost(programs["long"], jobs(long=1)[0]) == 15 * 10 + 5 * 30
    assert len(execute.shared_out(jobs(long=2), programs, 8)) == 2


def test_rows_to_run_first_come_first_and_finished_runs_do_not_come(tmp_path):
    execute = tool("execute")
    (tmp_path / "cell.short-1.json").write_text("{}", encoding="utf-8")

    class Arguments:
        results, first = str(tmp_path), "short"

    found = execute.wanted(jobs(long=1, short=2), Arguments)
    assert [job["run"] for job in found] == ["cell/short-0", "cell/long-0"]


FLAGS = (
    *("--dataset=digits", "--noise=0.4", "--seed=3", "--clean=80", "--validation=120"),
    *("--limit_train=400", "--batch_size=40", "--clean_batch_size=8", "--cutout=3"),
    *("--epochs=6", "--milestones=4", "--student_updates=2"),
    "--learning_rate=0.01",  # at 0.1 roundings grow until the last epoch differs
)
NEEDS_JAX = "jax is not installed: only tools/stablehlo needs it"


# The student starts after three epochs: after the warm-up, or in it.
@pytest.fixture(scope="module", params=["--warmup_epochs=2", "--warmup_epochs=4"])
def both(request, tmp_path_factory):
    """Two folders of one run: as train makes it, and by way of StableHLO."""
    pytest.importorskip("jax", reason=NEEDS_JAX)
    folder = tmp_path_factory.mktemp("stablehlo")
    settings = cli.config_of([*FLAGS, request.param])
    run, _, status = training.train(
        settings, folder / "direct", announce=lambda text: None, verbose=0
    )
    assert status == "finished"
    bundle = tool("export").Bundle(folder / "bundle")
    bundle.add("digits", "kdmlc", settings, prepared.prepare(settings))
    bundle.write()
    command = ["execute.py", str(folder / "bundle"), str(folder / "results"), "--keep=kdmlc"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command)
        tool("execute").main()
        patch.setattr(sys, "argv", ["collect.py", *command[1:3], f"--runs={folder / 'runs'}"])
        tool("collect").main()
    return run.folder, folder / "runs" / "track" / "digits" / "kdmlc-3"


def test_the_run_is_that_of_train_up_to_rounding(both):
    direct, exported = (training.run_lib.Run(folder).metrics() for folder in both)
    assert len(direct) == len(exported) == 6
    for one, other in zip(direct, exported, strict=True):
        logged = {name for name in one if name.endswith(("loss", "entropy"))}
        assert logged and logged == {name for name in other if name.endswith(("loss", "entropy"))}
        for name in logged:
            assert other[name] == pytest.approx(one[name], rel=2e-2), name
    assert "student_loss" not in direct[0] and "student_loss" in direct[-1]
    assert exported[-1]["pseudo_label_accuracy"] == pytest.approx(
        direct[-1]["pseudo_label_accuracy"], abs=0.02
    )


def test_the_run_can_be_restored_and_says_where_it_was_trained(both):
    run = training.run_lib.Run(both[1])
    method, epoch = run.restored_method("last")
    direct, _ = training.run_lib.Run(both[0]).restored_method("last")
    assert epoch == 6
    for one, other in zip(
        direct.networks["student"].variables, method.networks["student"].variables, strict=True
    ):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=0.05)
    report = json.loads((both[1] / "report.json").read_text(encoding="utf-8"))
    assert report["status"] == "finished" and "execute.py" in report["command"]
    assert report["versions"]["jax"] and report["machine"]["accelerators"]


def test_rows_whose_views_differ_have_programs_of_their_own(tmp_path):
    pytest.importorskip("jax", reason=NEEDS_JAX)
    bundle = tool("export").Bundle(tmp_path)
    for flags in ([], ["--cutout=0"], ["--cutout=0", "--seed=4"]):
        settings = cli.config_of([*FLAGS, "--method=ce", "--student_updates=1", *flags])
        bundle.add("digits", "ce", settings, prepared.prepare(settings))
    one, other, another_seed = (job["program"] for job in bundle.jobs)
    assert one != other == another_seed
    settings = cli.config_of([*FLAGS, "--cutout=0", "--crop_size=6"])
    with pytest.raises(InputError, match="leave out --strong_view and --crop_size"):
        bundle.add("digits", "kdmlc", settings, prepared.prepare(settings))


def test_a_run_whose_loss_is_not_finite_ends_with_an_error():
    execute = tool("execute")
    execute.check_finite({"epoch": 1, "student_loss": 2.0}, "cell/ce-0")
    with pytest.raises(SystemExit, match="error: student_loss of cell/ce-0 in epoch 2: not finite"):
        execute.check_finite({"epoch": 2, "student_loss": float("nan")}, "cell/ce-0")
