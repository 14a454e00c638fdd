//! What a cluster does to shards: each test ends with files that are as those of a run without shards.

use crate::daemons::Cluster;
use crate::processes::{is_alive, kill};
use crate::run::{Run, good};
use crate::wait::{until, until_some};

/// A gate after three of ten items of each shard.
const GATE: &[&str] = &["--gate", "gate"];

fn start(shards: usize, options: &[&str], arguments: &[&str]) -> (Cluster, Run) {
    let cluster = Cluster::start(65);
    let run = Run::new(10 * shards);
    let shards = shards.to_string();
    let own = ["--shards", &shards, "--engine", "slurm"];
    good(&run.submit(Some(&cluster), &[&own, options].concat(), arguments));
    (cluster, run)
}

pub fn baseline() {
    let (cluster, run) = start(8, &[], GATE);
    run.until_stored(24);
    let status = run.status(&cluster);
    assert!(status.contains("0 done, 8 running (n1 n2 n3 n4)"), "{status}");
    assert!(status.contains("merge: waiting (Dependency)"), "{status}");
    run.open_gate();
    run.check(&cluster);
    assert_eq!(run.hosts().len(), 4, "all nodes are used");
    assert_eq!(run.attempts().len(), 8);
    let status = run.status(&cluster);
    assert!(status.starts_with("8 done\n") && status.contains("words.json"), "{status}");
    assert!(good(&run.call(Some(&cluster), "logs", &["3"])).contains("item 30\n"));
    assert!(good(&run.call(Some(&cluster), "logs", &[])).contains("merge-"));
    let resumed = good(&run.call(Some(&cluster), "resume", &[]));
    assert!(resumed.contains("everything is done and merged") && cluster.is_idle(), "{resumed}");
}

pub fn kill_worker() {
    let (cluster, run) = start(4, &[], GATE);
    run.until_stored(12);
    kill(run.attempt_at(2).process, "KILL");
    run.open_gate();
    run.check(&cluster);
    assert!(run.log().contains("shard 2: exit code 137, starting"), "{}", run.log());
    assert_eq!(run.attempts_at(2).len(), 2);
    assert!(matches!(run.failures(2).as_slice(), [line] if line.starts_with("137 ")));
    let times: Vec<usize> = (20..24).map(|item| run.times(item)).collect();
    assert_eq!(times, [1, 1, 1, 2], "what was stored is not computed again");
}

pub fn requeue() {
    let (cluster, run) = start(4, &[], GATE);
    run.until_stored(12);
    let job = format!("{}_3", run.array());
    assert!(cluster.command("scontrol").args(["requeue", &job]).status().unwrap().success());
    until("the job is started again", || run.attempts_at(3).len() == 2);
    run.open_gate();
    run.check(&cluster);
    let restarts: Vec<String> = run.attempts_at(3).into_iter().map(|attempt| attempt.restart).collect();
    assert_eq!(restarts, ["0", "1"]);
    assert_eq!((run.failures(3).len(), run.times(30)), (0, 1));
}

pub fn drain() {
    let (cluster, run) = start(8, &["--slurm", "gres=gpu:1"], GATE);
    run.until_stored(12);
    let node = run.attempt_at(0).host;
    let name = format!("nodename={node}");
    assert!(
        cluster.command("scontrol").args(["update", &name, "state=drain", "reason=test"]).status().unwrap().success()
    );
    run.open_gate();
    run.check(&cluster);
    let there: Vec<usize> = run.attempts().iter().filter(|one| one.host == node).map(|one| one.shard).collect();
    assert_eq!(there, [0], "its shard ends there, and no other starts");
    assert_eq!(cluster.state(&node), "drained");
    assert_eq!(run.attempts().len(), 8);
}

pub fn node_lost() {
    let (mut cluster, run) = start(4, &[], GATE);
    run.until_stored(12);
    let node = run.attempt_at(1).host;
    cluster.cut_power(&node);
    until("the node is down", || cluster.state(&node).starts_with("down"));
    run.open_gate();
    run.check(&cluster);
    let hosts: Vec<String> = run.attempts_at(1).into_iter().map(|attempt| attempt.host).collect();
    assert_eq!(hosts.len(), 2);
    assert!(hosts[0] == node && hosts[1] != node, "{hosts:?}");
    assert_eq!((run.failures(1).len(), run.times(10)), (0, 1));
}

pub fn split_brain() {
    let (cluster, run) = start(4, &[], GATE);
    run.until_stored(12);
    let first = run.attempt_at(1);
    // The node does not answer, but its shard lives on.
    kill(cluster.daemon(&first.host), "STOP");
    let second = until_some("a second copy of the shard", || {
        run.attempts_at(1).into_iter().find(|attempt| attempt.host != first.host)
    });
    assert!(is_alive(first.process) && is_alive(second.process), "two copies at once");
    run.open_gate();
    until("the shard is done", || run.missing(4).is_empty());
    kill(cluster.daemon(&first.host), "CONT");
    run.check(&cluster);
    until("the node is back", || cluster.state(&first.host) == "idle");
}

pub fn preempt() {
    let (cluster, run) = start(4, &["--slurm", "gres=gpu:1,partition=gpu"], GATE);
    run.until_stored(12);
    let mut urgent = cluster.command("sbatch");
    urgent.args(["--partition=urgent", "--gres=gpu:1", "--nodes=2", "--output=/dev/null", "--wrap=sleep 2"]);
    assert!(urgent.status().unwrap().success());
    until("shards are started again", || run.attempts().len() == 6);
    run.open_gate();
    run.check(&cluster);
    let again: Vec<usize> = run.attempts().iter().filter(|one| one.restart == "1").map(|one| one.shard).collect();
    assert_eq!(again.len(), 2);
    for shard in again {
        assert_eq!((run.failures(shard).len(), run.times(10 * shard)), (0, 1));
    }
}

pub fn time_limit() {
    // Slurm's shortest limit is a minute; the shard needs more.
    let cluster = Cluster::start(65);
    let run = Run::new(110);
    let options = ["--shards", "1", "--engine", "slurm", "--slurm", "time=1", "--retries", "0"];
    good(&run.submit(Some(&cluster), &options, &["--sleep", "0.6"]));
    run.check(&cluster);
    let log = run.log();
    assert!(log.contains("shard 0: stopped; it goes on in the next attempt"), "{log}");
    assert!(log.contains("shard 0: exit code 75, starting"), "{log}");
    assert!(run.attempts().len() >= 2 && run.failures(0).is_empty());
    assert_eq!(run.times(0), 1);
}

pub fn out_of_memory() {
    let (cluster, run) = start(4, &["--slurm", "mem-per-cpu=700"], &["--hog", "25"]);
    until("all jobs have ended", || cluster.is_idle());
    assert_eq!(run.missing(4), [2], "{}", run.log());
    assert!(run.log().contains("exceeded memory limit"), "{}", run.log());
    assert!(!run.is_merged());
    let status = run.status(&cluster);
    assert!(status.contains("3 done, 1 failed (shard 2: ") && status.contains("lancet resume"), "{status}");
    good(&run.call(Some(&cluster), "resume", &["--slurm", "mem=2500"]));
    run.check(&cluster);
    assert_eq!(run.attempts().len(), 5);
    let script = std::fs::read_to_string(run.run().join("job.sbatch")).unwrap();
    assert!(script.contains("--mem=2500") && !script.contains("mem-per-cpu"), "{script}");
}

pub fn cancel_and_resume() {
    let (cluster, run) = start(8, &[], GATE);
    run.until_stored(24);
    let said = good(&run.call(Some(&cluster), "cancel", &["5-6"]));
    assert!(said.contains("cancelled: 2 jobs"), "{said}");
    until("the jobs are gone", || !run.status(&cluster).contains("8 running"));
    run.open_gate();
    until("no job is left", || cluster.is_idle());
    assert_eq!(run.missing(8), [5, 6]);
    assert!(!run.is_merged() && run.log().contains("2 of 8 shards are missing: 5-6"), "{}", run.log());
    assert!(run.status(&cluster).contains("6 done, 2 with nobody (5-6)"), "{}", run.status(&cluster));
    good(&run.call(Some(&cluster), "resume", &[]));
    run.check(&cluster);
    let tries: Vec<usize> = (0..8).map(|shard| run.attempts_at(shard).len()).collect();
    assert_eq!(tries, [1, 1, 1, 1, 1, 2, 2, 1]);
    assert_eq!(run.times(50), 1);
}

pub fn poison() {
    let (cluster, run) = start(4, &["--retries", "1"], &["--broken", "15", "--failing", "35"]);
    until("all jobs have ended", || cluster.is_idle());
    assert_eq!(run.missing(4), [1, 3], "{}", run.log());
    assert_eq!(run.attempts_at(1).len(), 1, "an error of the script is not tried again");
    assert_eq!(run.attempts_at(3).len(), 2, "one of the machine is, once");
    assert!(run.log().contains("2 of 4 shards are missing: 1,3"), "{}", run.log());
    let status = run.status(&cluster);
    for words in
        ["2 done, 2 failed (1,3)", "shard 1: the script's own error", "a wrong shape", "shard 3: exit 1 twice on n"]
    {
        assert!(status.contains(words), "{words}: {status}");
    }
}

pub fn corrupt() {
    let (cluster, run) = start(4, &[], &[]);
    run.check(&cluster);
    let results = run.stored();
    let of_shard = |shard: usize| {
        let record = std::fs::read_to_string(run.run().join(format!("shards/{shard}.json"))).unwrap();
        let found = results.iter().find(|path| record.contains(path.file_name().unwrap().to_str().unwrap()));
        found.unwrap().clone()
    };
    let cut = of_shard(1);
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(run.run().join("shards/2.json"), "").unwrap();
    std::fs::remove_file(run.path().join("out/words.json")).unwrap();
    let merged = run.call(Some(&cluster), "merge", &[]);
    assert_eq!(merged.status.code(), Some(3));
    assert!(crate::run::said(&merged).contains("2 of 4 shards are missing: 1-2"));
    std::fs::remove_file(run.run().join("merged.json")).unwrap();
    good(&run.call(Some(&cluster), "resume", &[]));
    run.check(&cluster);
    let tries: Vec<usize> = (0..4).map(|shard| run.attempts_at(shard).len()).collect();
    assert_eq!(tries, [1, 2, 2, 1]);
    let again = (0..40).filter(|item| run.times(*item) > 1).count();
    assert_eq!(again, 1, "only the result that was cut is computed again");
}

pub fn controller_restart() {
    let (mut cluster, run) = start(12, &[], GATE);
    run.until_stored(24);
    let now = std::time::SystemTime::now();
    until("the controller saves its state", || cluster.saved().is_some_and(|saved| saved > now));
    cluster.kill_controller();
    run.open_gate();
    until("the shards that run go on without it", || run.missing(12).len() == 4);
    cluster.start_controller();
    run.check(&cluster);
    assert_eq!(run.times(0), 1);
}

pub fn controller_lost_its_queue() {
    let (mut cluster, run) = start(8, &[], &[]);
    // It has not saved what was just submitted.
    cluster.kill_controller();
    std::fs::remove_dir_all(cluster.path().join("state")).unwrap();
    std::fs::create_dir(cluster.path().join("state")).unwrap();
    cluster.start_controller();
    until("nothing is left of the run's jobs", || cluster.is_idle());
    assert!(!run.is_merged());
    // Nodes whose jobs the controller does not know may be taken out of service.
    until("the nodes are there", || {
        (1..=4).all(|number| {
            let node = format!("n{number}");
            let state = cluster.state(&node);
            if state.starts_with("drain") || state.starts_with("down") {
                cluster.ask("scontrol", &["update", &format!("nodename={node}"), "state=resume"]);
            }
            state == "idle"
        })
    });
    let first = run.array();
    good(&run.call(Some(&cluster), "resume", &[]));
    run.check(&cluster);
    let submitted = std::fs::read_to_string(run.run().join("submitted.2.json")).unwrap();
    assert!(submitted.contains(&format!("\"{first}\"")), "the number is given out again: {submitted}");
}

pub fn largest_array() {
    let cluster = Cluster::start(9);
    let run = Run::new(26);
    let refused = cluster.command("sbatch").args(["--array=0-9", "--wrap=true"]).output().unwrap();
    assert!(!refused.status.success(), "an index that is too large");
    let options = ["--shards", "13", "--engine", "slurm", "--max-running", "6"];
    let submitted = good(&run.submit(Some(&cluster), &options, &[]));
    assert!(submitted.contains("submitted: shards 0-12 as job "), "{submitted}");
    run.check(&cluster);
    assert_eq!(run.attempts().len(), 13);
    let second = std::fs::read_to_string(run.run().join("submitted.1.json")).unwrap();
    assert!(second.contains("\"first\": 9"), "{second}");
}

/// Why the merge does not wait for success: behind a job that failed it would wait for ever.
pub fn afterok() {
    let cluster = Cluster::start(65);
    let mut array = cluster.command("sbatch");
    array.args(["--parsable", "--array=0-1", "--output=/dev/null", "--wrap=exit $SLURM_ARRAY_TASK_ID"]);
    let array = String::from_utf8(array.output().unwrap().stdout).unwrap();
    let dependency = format!("--dependency=afterok:{}", array.trim());
    let merge = cluster.command("sbatch").args(["--output=/dev/null", &dependency, "--wrap=true"]).status();
    assert!(merge.unwrap().success());
    until("it never starts", || {
        cluster.ask("squeue", &["--noheader", "--format=%r"]).contains("DependencyNeverSatisfied")
    });
}
