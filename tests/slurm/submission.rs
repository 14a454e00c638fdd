//! What Slurm refuses, what it is asked for, and a model on it.

use std::fs;

use crate::daemons::{Cluster, program};
use crate::run::{Run, good, said};
use crate::wait::until;

/// sbatch's own words, and what to change; then the run goes on with that.
pub fn refused() {
    let cluster = Cluster::start(65);
    let run = Run::new(4);
    let options = ["--shards", "2", "--engine", "slurm", "--slurm", "partition=nope"];
    let output = run.submit(Some(&cluster), &options, &[]);
    let text = said(&output);
    assert!(!output.status.success() && cluster.is_idle(), "{text}");
    for words in ["sbatch refused the job: ", "artition", "--slurm partition=NAME"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // The defaults of the site come before Slurm's, and what is given with the command before these.
    fs::create_dir_all(run.path().join("config/lancet")).unwrap();
    fs::write(run.path().join("config/lancet/slurm.ini"), "[slurm]\npartition = gpu\nmem = 500\ncomment = ours\n")
        .unwrap();
    let options = ["--shards", "2", "--engine", "slurm", "--slurm", "mem=900", "--shards-per-job", "2"];
    good(&run.submit(Some(&cluster), &options, &[]));
    run.check(&cluster);
    let script = fs::read_to_string(run.run().join("job.sbatch")).unwrap();
    assert!(
        script.contains("--partition=gpu\n") && script.contains("--comment=ours\n") && script.contains("--mem=900\n"),
        "{script}"
    );
    let note = fs::read_to_string(run.run().join("submitted.0.json")).unwrap();
    assert!(note.contains("\"shards_per_job\": 2"), "one job did both: {note}");
    assert_eq!(run.attempts().len(), 2);
}

/// Where `scontrol requeue` is forbidden, a shard is tried again in the same job.
pub fn requeue_forbidden() {
    let cluster = Cluster::start(65);
    let run = Run::new(20);
    let folder = run.path().join("forbidden");
    program(&folder, "scontrol", "#!/bin/sh\necho 'scontrol: error: Access/permission denied' >&2\nexit 1\n");
    let set_up = format!("export PATH={}:$PATH", folder.display());
    let options =
        ["--shards", "4", "--engine", "slurm", "--shards-per-job", "2", "--set-up", &set_up, "--retries", "1"];
    good(&run.submit(Some(&cluster), &options, &["--failing", "7"]));
    until("all jobs have ended", || cluster.is_idle());
    assert_eq!(run.missing(4), [1], "{}", run.log());
    assert_eq!(run.attempts_at(1).len(), 2);
    assert!(run.attempts().iter().all(|attempt| attempt.restart == "0"));
    assert!(run.log().contains("1 of 4 shards is missing: 1"), "{}", run.log());
}

/// A grid of a model and the values behind it: the report of the shards is that of the whole.
pub fn model() {
    let cluster = Cluster::start(65);
    let run = Run::new(1);
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models/llama2");
    let text = "let args = parse_args(#{
            out: #{ default: \"out\", help: \"folder\" }, model: #{ default: \"\", help: \"folder of the model\" },
        });
        let model = load_model(args.model, #{ device: \"cpu\" });
        let prompts = [];
        for n in 0..24 { prompts.push([1 + n, 2, 3 + n]); }
        let grid = model.patch_grid(#{
            source: [1, 2], target: prompts, answer: prompts.map(|ids| ids[0]), sizes: [1, 2], quiet: true,
        });
        leave_rest_to_merge();
        write_text(join_path(args.out, \"words.json\"), json_encode(grid.rank.to_array()));
        write_text(join_path(args.out, \"report.txt\"), `${grid.logit.mean()}`);";
    fs::write(run.path().join("grid.rhai"), text).unwrap();
    let whole = run.lancet(None).args(["run", "grid.rhai", "--model", model, "--out", "whole"]).output().unwrap();
    good(&whole);
    let mut submit = run.lancet(Some(&cluster));
    submit.args(["submit", "grid.rhai", "--run", "run", "--shards", "3", "--engine", "slurm", "--model", model]);
    good(&submit.args(["--slurm", "cpus-per-task=1,mem=900"]).output().unwrap());
    until("the run is merged", || {
        assert!(!cluster.is_idle() || run.is_merged(), "nobody goes on:\n{}", run.log());
        run.is_merged()
    });
    assert!((0..3).all(|shard| {
        fs::read_to_string(run.run().join(format!("shards/{shard}.json"))).unwrap().contains(".cells")
    }));
    for name in ["words.json", "report.txt"] {
        let (merged, alone) =
            (fs::read(run.path().join("out").join(name)), fs::read(run.path().join("whole").join(name)));
        assert_eq!(merged.unwrap(), alone.unwrap(), "{name}");
    }
}
