//! Runs in shards on a real Slurm, and without it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod daemons;
mod fault;
mod local;
mod processes;
mod run;
mod submission;
mod wait;

use libtest_mimic::{Arguments, Trial};

/// How many tests run at once: most of them wait most of the time.
const AT_ONCE: usize = 8;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let missing = daemons::missing();
    let is_checked = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    if !missing.is_empty() && !arguments.list {
        let text = format!("there is no Slurm here (no {}); `make slurm` installs it", missing.join(", "));
        assert!(!is_checked, "{text}");
        eprintln!("the tests with Slurm are left out: {text}");
    }
    let with_slurm: &[(&str, fn())] = &[
        ("time_limit", fault::time_limit),
        ("node_lost", fault::node_lost),
        ("split_brain", fault::split_brain),
        ("out_of_memory", fault::out_of_memory),
        ("baseline", fault::baseline),
        ("kill_worker", fault::kill_worker),
        ("requeue", fault::requeue),
        ("drain", fault::drain),
        ("preempt", fault::preempt),
        ("cancel_and_resume", fault::cancel_and_resume),
        ("poison", fault::poison),
        ("corrupt", fault::corrupt),
        ("controller_restart", fault::controller_restart),
        ("controller_lost_its_queue", fault::controller_lost_its_queue),
        ("largest_array", fault::largest_array),
        ("afterok", fault::afterok),
        ("refused", submission::refused),
        ("requeue_forbidden", submission::requeue_forbidden),
        ("model", submission::model),
    ];
    let without_slurm: &[(&str, fn())] = &[
        ("any_division", local::any_division),
        ("killed_at_any_moment", local::killed_at_any_moment),
        ("two_copies", local::two_copies),
        ("told_to_stop", local::told_to_stop),
        ("errors_of_the_script", local::errors_of_the_script),
        ("changed_input", local::changed_input),
        ("changed_late_input", local::changed_late_input),
        ("work_within_a_unit", local::work_within_a_unit),
        ("automatic_number", local::automatic_number),
        ("dry_run", local::dry_run),
        ("from_a_script", local::from_a_script),
    ];
    let trial = |(name, test): &(&str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    let slurm = with_slurm.iter().map(|test| trial(test).with_ignored_flag(!missing.is_empty()));
    let trials = slurm.chain(without_slurm.iter().map(trial)).collect();
    libtest_mimic::run(&arguments, trials).exit();
}
