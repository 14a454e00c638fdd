//! Runs in shards without a scheduler: the same bytes however the work is divided, and whatever happens to a shard.

use std::fs;
use std::process::{Command, Stdio};

use crate::processes::kill;
use crate::run::{Run, good, said};
use crate::wait::until;

/// However many shards there are, the merged files are those of the script run whole.
pub fn any_division() {
    for (items, shards) in [(7, 3), (5, 9), (12, 5)] {
        let run = Run::new(items);
        good(&run.submit(None, &["--shards", &shards.to_string(), "--engine", "local", "-j", "3"], &[]));
        run.check_files();
        let record = |shard| fs::read_to_string(run.run().join(format!("shards/{shard}.json"))).unwrap();
        let results: usize = (0..shards).map(|shard| record(shard).matches("\"sha256\"").count()).sum();
        assert_eq!(results, items, "each item is one shard's");
    }
}

/// A shard and its engine are killed at some moment; the run goes on from what was stored.
pub fn killed_at_any_moment() {
    for after in [0, 2, 5] {
        let run = Run::new(20);
        let mut engine = run.lancet(None);
        engine.args(["submit", "words.rhai", "--run", "run", "--items", "20", "--sleep", "0.05"]);
        let mut engine = engine.args(["--shards", "2", "--engine", "local"]).stdout(Stdio::null()).spawn().unwrap();
        until("a shard has begun", || !run.attempts().is_empty() && run.stored().len() >= after);
        // The engine first, which would start the shard again.
        kill(engine.id(), "KILL");
        engine.wait().unwrap();
        run.attempts().iter().for_each(|attempt| kill(attempt.process, "KILL"));
        let stored = run.stored().len();
        let merged = run.call(None, "merge", &[]);
        assert_eq!(merged.status.code(), Some(3), "{}", said(&merged));
        let status = good(&run.call(None, "status", &[]));
        assert!(status.contains("0 done, ") && status.contains("killed, or its node was lost"), "{status}");
        good(&run.call(None, "resume", &["-j", "2"]));
        run.check_files();
        assert!(run.stored().len() == 20 && stored < 20);
    }
}

/// Two copies of a shard at once leave the same as one.
pub fn two_copies() {
    let run = Run::new(8);
    good(&run.submit(None, &["--shards", "1", "--engine", "print"], &["--sleep", "0.1"]));
    let program = run.run().join("bin/lancet");
    let shard = || {
        let mut command = run.lancet(None);
        command.args(["shard", "run", "0"]).stdout(Stdio::null()).spawn().unwrap()
    };
    assert!(program.is_file());
    let mut copies = [shard(), shard()];
    for copy in &mut copies {
        assert!(copy.wait().unwrap().success());
    }
    assert_eq!(run.attempts().len(), 2);
    good(&run.call(None, "merge", &[]));
    run.check_files();
}

/// A shard stops after its item when it is told, and says so by its exit code.
pub fn told_to_stop() {
    let run = Run::new(10);
    good(&run.submit(None, &["--shards", "1", "--engine", "print"], &["--gate", "gate"]));
    let shard = || {
        let mut command = run.lancet(None);
        command.args(["shard", "run", "0"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut first = shard();
    run.until_stored(3);
    kill(first.id(), "USR1");
    assert_eq!(first.wait().unwrap().code(), Some(75));
    let mut second = shard();
    until("it has begun", || run.attempts().len() == 2);
    std::thread::sleep(std::time::Duration::from_secs(2));
    kill(second.id(), "USR1");
    // It has nothing that the first had not: to start it again and again would be in vain.
    assert_eq!(second.wait().unwrap().code(), Some(1));
    run.open_gate();
    assert!(shard().wait().unwrap().success());
    good(&run.call(None, "merge", &[]));
    run.check_files();
}

pub fn errors_of_the_script() {
    let run = Run::new(8);
    let output = run.submit(None, &["--shards", "4", "--engine", "local"], &["--broken", "5", "--failing", "1"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert_eq!(run.attempts_at(2).len(), 1, "an error of the script is not tried again");
    assert_eq!((run.attempts_at(0).len(), run.failures(0).len()), (3, 3), "one of the machine is");
    assert!(said(&output).contains("2 of 4 shards are missing: 0,2"), "{}", said(&output));
    let status = good(&run.call(None, "status", &[]));
    assert!(status.contains("exit 1 3 times on ") && status.contains("next: the script is wrong"), "{status}");
    assert!(good(&run.call(None, "logs", &["2"])).contains("a wrong shape"));
}

/// What only a shard reads is compared when the shards are merged.
pub fn changed_late_input() {
    let run = Run::new(1);
    let text = "let keys = [0, 1].map(|n| #{ computation: \"late 1\", number: n });
        let found = kept::values(keys, |n| read_text(\"late.txt\"));
        leave_rest_to_merge();
        write_json(\"found.json\", found);";
    fs::write(run.path().join("late.rhai"), text).unwrap();
    let lancet = |words: &[&str]| run.lancet(None).args(words).output().unwrap();
    good(&lancet(&["submit", "late.rhai", "--run", "run", "--shards", "2", "--engine", "print"]));
    for (shard, text) in [("0", "one"), ("1", "two")] {
        fs::write(run.path().join("late.txt"), text).unwrap();
        good(&lancet(&["shard", "run", shard]));
    }
    let merged = lancet(&["merge", "run"]);
    assert!(!merged.status.success() && said(&merged).contains("late.txt` has changed"), "{}", said(&merged));
    assert!(!run.path().join("found.json").exists());
}

/// A value whose computation could itself be divided is one shard's as a whole.
pub fn work_within_a_unit() {
    let run = Run::new(1);
    let text = "let keys = |name, count| (0..count).map(|n| #{ computation: name, number: n });
        let found = kept::values(keys.call(\"outer 1\", 3), |outer| {
            kept::values(keys.call(`inner ${outer}`, 4), |inner| outer * 10 + inner)
        });
        write_json(\"found.json\", found);";
    fs::write(run.path().join("nested.rhai"), text).unwrap();
    let options = ["submit", "nested.rhai", "--run", "run", "--shards", "3", "--engine", "local"];
    good(&run.lancet(None).args(options).output().unwrap());
    let found: Vec<Vec<i64>> =
        serde_json::from_str(&fs::read_to_string(run.path().join("found.json")).unwrap()).unwrap();
    assert_eq!(found, [[0, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]]);
}

pub fn changed_input() {
    let run = Run::new(1);
    fs::write(run.path().join("data.txt"), "one").unwrap();
    let text = "let text = read_text(\"data.txt\");
        let found = kept::values([#{ computation: \"data 1\" }], |index| text);
        write_text(\"found.txt\", found[0]);";
    fs::write(run.path().join("data.rhai"), text).unwrap();
    let submit = |folder: &str| {
        let options = ["submit", "data.rhai", "--run", folder, "--shards", "1", "--engine", "print"];
        run.lancet(None).args(options).output().unwrap()
    };
    good(&submit("run"));
    fs::write(run.path().join("data.txt"), "two").unwrap();
    for command in [&["shard", "run", "0"][..], &["resume", "run"]] {
        let output = run.lancet(None).args(command).output().unwrap();
        assert!(!output.status.success() && said(&output).contains("data.txt` has changed"), "{}", said(&output));
    }
    let other = submit("run");
    assert!(said(&other).contains("holds another run"), "{}", said(&other));
}

/// `auto` is the number that a scheduler gives, if it is one.
pub fn automatic_number() {
    let run = Run::new(3);
    good(&run.submit(None, &["--shards", "3", "--engine", "print"], &[]));
    let shard = |variables: &[(&str, &str)]| {
        let mut command: Command = run.lancet(None);
        said(&command.args(["shard", "run", "auto"]).envs(variables.iter().copied()).output().unwrap())
    };
    assert!(shard(&[("HQ_TASK_ID", "1")]).contains("shard 1: done"));
    assert!(shard(&[("SGE_TASK_ID", "1")]).contains("shard 0: done"));
    assert!(shard(&[("JOB_COMPLETION_INDEX", "2"), ("SGE_TASK_ID", "undefined")]).contains("shard 2: done"));
    assert!(shard(&[("LSB_JOBINDEX", "2")]).contains("shard 1 is done"));
    assert!(shard(&[]).contains("none is set"));
    assert!(shard(&[("HQ_TASK_ID", "1"), ("PBS_ARRAY_INDEX", "1")]).contains("HQ_TASK_ID and PBS_ARRAY_INDEX are set"));
    assert!(shard(&[("HQ_TASK_ID", "7")]).contains("no shard 7"));
    assert!(shard(&[("LSB_JOBINDEX", "0")]).contains("LSB_JOBINDEX is 0"));
    good(&run.call(None, "merge", &[]));
    run.check_files();
}

pub fn dry_run() {
    let run = Run::new(3);
    let options = ["--shards", "3", "--engine", "slurm", "--slurm", "mem=1G,exclusive", "--dry-run"];
    let text = good(&run.submit(None, &options, &[]));
    for line in ["#SBATCH --mem=1G\n", "#SBATCH --exclusive\n", "#SBATCH --requeue\n", "3 shards\n"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!run.run().exists());
    for (list, problem) in [("array=1-2", "`array` of sbatch is set by Lancet"), ("time=soon", "no time of Slurm's")] {
        let output = run.submit(None, &["--shards", "3", "--engine", "slurm", "--slurm", list, "--dry-run"], &[]);
        assert!(!output.status.success() && said(&output).contains(problem), "{}", said(&output));
    }
}

/// A script that is allowed everything submits another; one that is not is refused.
pub fn from_a_script() {
    let run = Run::new(6);
    let text = "let r = submit(\"words.rhai\", [\"--items\", \"6\"], #{ shards: 2, engine: \"local\", run: \"run\", jobs: 2 });
        assert(r.wait().is_done);
        assert_eq(r.status().done, [0, 1]);
        assert(r.logs(1).contains(\"item 5\"));
        let again = open_run(r.folder);
        assert_eq(again.merge(), r.files);
        again.resume();
        print(again.files.len());";
    fs::write(run.path().join("outer.rhai"), text).unwrap();
    let outer = |options: &[&str]| run.lancet(None).args(["run"]).args(options).arg("outer.rhai").output().unwrap();
    let refused = said(&outer(&[]));
    assert!(refused.contains("may not submit a run") && refused.contains("--allow all"), "{refused}");
    assert_eq!(good(&outer(&["--allow", "all"])).trim(), "2");
    run.check_files();
}
