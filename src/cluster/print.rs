//! The commands by which other schedulers run a submitted run's shards.

use super::run::{Run, ranges};

/// The commands for GNU parallel, HyperQueue and Kubernetes' indexed jobs, for these shards; a shard is safe to run twice.
pub fn commands(run: &Run, shards: &[usize]) -> String {
    let program = quoted(&run.program().display().to_string());
    let folder = quoted(&run.folder().display().to_string());
    let library = run.plan().libtorch.as_ref().map_or_else(String::new, |libraries| {
        format!("export LD_LIBRARY_PATH={}\n", quoted(&libraries.display().to_string()))
    });
    let list: Vec<String> = shards.iter().map(usize::to_string).collect();
    let spread = ranges(shards);
    let count = run.plan().shards;
    format!(
        "# The environment of every shard\n\
         export HF_HUB_OFFLINE=1\n\
         {library}\n\
         # GNU parallel: as many at once as -j says\n\
         parallel -j 2 --retries 3 {program} shard {folder} ::: {list}\n\n\
         # HyperQueue\n\
         hq submit --array {spread} --resource gpus/nvidia=1 --crash-limit 3 {program} shard {folder} auto\n\n\
         # Kubernetes: the part of an indexed job that matters; the folder is on a volume that all pods mount\n\
         spec:\n  completionMode: Indexed\n  completions: {count}\n  parallelism: 8\n  backoffLimitPerIndex: 3\n  \
         podFailurePolicy:\n    rules:\n    - action: FailIndex\n      onExitCodes: {{ operator: In, values: [{final_code}] }}\n  \
         template:\n    spec:\n      restartPolicy: Never\n      containers:\n      - name: shard\n        \
         command: [{program:?}, shard, {folder:?}, auto]\n\n\
         # At the end\n\
         {program} merge {folder}\n",
        list = list.join(" "),
        final_code = super::Code::FINAL,
    )
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+:@%,=".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/a/b-1.c"), "/a/b-1.c");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
