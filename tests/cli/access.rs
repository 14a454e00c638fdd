//! What a script may touch, and what `--allow` adds.

use std::path::Path;
use std::process::{Command, Output};

/// A folder with a script's folder `scripts`, a working folder `work`, a folder `elsewhere` with files of all kinds, and
/// links from the first two to it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for folder in ["scripts", "work", "elsewhere"] {
            std::fs::create_dir(place.path(folder)).unwrap();
        }
        std::fs::write(place.path("elsewhere/secret.txt"), "secret").unwrap();
        std::fs::write(place.path("elsewhere/module.rhai"), "const X = 1;").unwrap();
        for folder in ["scripts", "work"] {
            std::os::unix::fs::symlink("../elsewhere", place.path(folder).join("link")).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn elsewhere(&self) -> String {
        self.path("elsewhere").display().to_string()
    }

    fn run(&self, code: &str, options: &[&str], arguments: &[&str]) -> Output {
        std::fs::write(self.path("scripts/script.rhai"), code).unwrap();
        self.lancet().args(options).arg("run").arg(self.path("scripts/script.rhai")).args(arguments).output().unwrap()
    }

    fn lancet(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
        command.current_dir(self.path("work")).env("LANCET_CACHE", self.path("cache"));
        command.env_remove("LANCET_PATH").env_remove("HF_HUB_CACHE").env("HF_HOME", self.path("hub"));
        command
    }

    fn allowed(&self, code: &str, options: &[&str], arguments: &[&str]) -> String {
        let output = self.run(code, options, arguments);
        assert!(output.status.success(), "{code}: {}", errors(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, code: &str, permission: &str) {
        let output = self.run(code, &[], &[]);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{code}: {errors}");
        assert!(errors.starts_with("error: this script may not"), "{code}: {errors}");
        assert!(errors.contains(&format!("`--allow {permission}`")), "{code}: {errors}");
        assert!(errors.contains("script.rhai:1:"), "{code}: {errors}");
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_script_reads_where_the_command_line_points() {
    let place = Place::new();
    std::fs::write(place.path("scripts/words.txt"), "words").unwrap();
    assert_eq!(place.allowed("print(read_text(script_dir() + \"/words.txt\"))", &[], &[]), "words\n");
    let secret = format!("{}/secret.txt", place.elsewhere());
    for argument in [secret.clone(), place.elsewhere(), format!("--data={secret}"), "../elsewhere".into()] {
        let code = format!("print(read_text(\"{secret}\"))");
        assert_eq!(place.allowed(&code, &[], &[&argument]), "secret\n");
    }
    // What it wrote before.
    assert_eq!(
        place.allowed("write_text(\"new/x.txt\", \"mine\"); print(read_text(\"new/x.txt\"))", &[], &[]),
        "mine\n"
    );
    // Its cache.
    place.allowed("write_text(cache_dir() + \"/x.txt\", \"kept\"); read_text(cache_dir() + \"/x.txt\")", &[], &[]);
    let out = place.path("results").display().to_string();
    place.allowed(&format!("write_text(\"{out}/deep/x.txt\", \"\")"), &[], &["--out", &out]);
    assert!(place.path("results/deep/x.txt").is_file());
}

#[test]
fn no_function_reads_elsewhere() {
    let place = Place::new();
    let elsewhere = place.elsewhere();
    for name in ["config.json", "tokenizer.json", "model.gguf", "x.parquet", "x.safetensors"] {
        std::fs::write(place.path("elsewhere").join(name), "{}").unwrap();
    }
    let permission = |name: &str| format!("read={elsewhere}/{name}");
    for function in
        ["read_text", "file_hash", "path_exists", "read_json", "read_jsonl", "read_csv", "read_task", "read_parquet"]
    {
        place.refused(&format!("{function}(\"{elsewhere}/secret.txt\")"), &permission("secret.txt"));
    }
    for function in ["load_safetensors", "load_safetensors_metadata"] {
        place.refused(&format!("{function}(\"{elsewhere}/x.safetensors\")"), &permission("x.safetensors"));
    }
    place.refused(&format!("read_texts(\"{elsewhere}/secret.txt\").to_array()"), &permission("secret.txt"));
    for listed in [elsewhere.clone(), format!("{elsewhere}/*.txt")] {
        place.refused(&format!("read_texts(\"{listed}\")"), &format!("read={elsewhere}"));
    }
    place.refused(&format!("load_model(\"{elsewhere}\")"), &permission("config.json"));
    place.refused(&format!("load_model(\"{elsewhere}/model.gguf\")"), &permission("model.gguf"));
    place.refused(&format!("import \"{elsewhere}/module\" as m;"), &permission("module.rhai"));
}

#[test]
fn no_function_writes_elsewhere() {
    let place = Place::new();
    let elsewhere = place.elsewhere();
    let written = |name: &str| format!("{elsewhere}/{name}");
    for (code, name) in [
        ("write_text(PATH, \"\")", "x.txt"),
        ("write_json(PATH, 1)", "x.json"),
        ("write_csv(PATH, [[1]])", "x.csv"),
        ("write_parquet(PATH, #{ a: [1] })", "x.parquet"),
        ("save_safetensors(PATH, #{ a: zeros([1]) })", "x.safetensors"),
        ("make_dir(PATH)", "folder"),
        ("heatmap(zeros([2, 2])).save(PATH)", "x.svg"),
    ] {
        let code = code.replace("PATH", &format!("\"{}\"", written(name)));
        place.refused(&code, &format!("write={}", written(name)));
        assert!(!Path::new(&written(name)).exists(), "{code}");
        place.allowed(&code, &["--allow", &format!("write={elsewhere}")], &[]);
        assert!(Path::new(&written(name)).exists(), "{code}");
    }
}

#[test]
fn links_and_dots_lead_to_what_they_lead_to() {
    let place = Place::new();
    let elsewhere = place.elsewhere();
    for path in
        ["link/secret.txt", "../work/link/secret.txt", "../elsewhere/secret.txt", "./link/../elsewhere/secret.txt"]
    {
        place.refused(&format!("read_text(\"{path}\")"), &format!("read={elsewhere}/secret.txt"));
    }
    place.refused("read_text(script_dir() + \"/link/secret.txt\")", &format!("read={elsewhere}/secret.txt"));
    place.refused("write_text(\"link/new.txt\", \"\")", &format!("write={elsewhere}/new.txt"));
    place.refused("write_text(\"new/../../elsewhere/new.txt\", \"\")", &format!("write={elsewhere}/new.txt"));
    assert!(!place.path("elsewhere/new.txt").exists());
}

#[test]
fn links_in_the_caches_lead_on() {
    let place = Place::new();
    std::fs::create_dir(place.path("cache")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", place.path("cache/models")).unwrap();
    let cache = place.path("cache").display().to_string();
    assert_eq!(place.allowed(&format!("print(read_text(\"{cache}/models/secret.txt\"))"), &[], &[]), "secret\n");
    let elsewhere = place.elsewhere();
    place.refused(&format!("write_text(\"{cache}/models/x\", \"\")"), &format!("write={elsewhere}/x"));
    let code = format!("read_text(\"{cache}/models/../elsewhere/secret.txt\")");
    place.refused(&code, &format!("read={elsewhere}/secret.txt"));
}

#[test]
fn the_network_and_the_environment_are_closed() {
    let place = Place::new();
    let ask = "chat_completion(\"http://127.0.0.1:1/v1\", #{ model: \"m\", messages: [], attempts: 1 })";
    place.refused(ask, "net=127.0.0.1:1");
    let output = place.run(ask, &["--allow", "net=127.0.0.1:1"], &[]);
    assert!(errors(&output).contains("the connection was refused"), "{}", errors(&output));
    place.refused("env(\"HF_HOME\")", "env=HF_HOME");
    place.refused("env(\"HF_HOME\", \"none\")", "env=HF_HOME");
    place.allowed("env(\"HF_HOME\")", &["--allow", "env=HF_HOME"], &[]);
    assert_eq!(
        place.allowed("print(env(\"NOT_SET\", \"none\")); print(env_is_set(\"HF_HOME\"))", &[], &[]),
        "none\ntrue\n"
    );
    let code = "chat_completion(\"http://127.0.0.1:1/v1\", #{ model: \"m\", messages: [], api_key_env: \"HF_HOME\" })";
    place.refused(code, "env=HF_HOME");
}

#[test]
fn the_prompt_and_given_code_have_the_users_rights() {
    let place = Place::new();
    let secret = format!("{}/secret.txt", place.elsewhere());
    let output = place.lancet().args(["-e", &format!("read_text(\"{secret}\")")]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "secret\n");
    // A script before the prompt does not.
    std::fs::write(place.path("scripts/script.rhai"), format!("read_text(\"{secret}\")")).unwrap();
    let mut command = place.lancet();
    command.arg("-i").arg(place.path("scripts/script.rhai"));
    let output = crate::support::with_input(&mut command, &format!("read_text(\"{secret}\")\n"));
    assert!(errors(&output).contains("this script may not read"), "{}", errors(&output));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "\"secret\"\n");
    let output = place.lancet().args(["--allow", "all", "-e", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = place.lancet().args(["--allow", "reed=x", "run", "x.rhai"]).output().unwrap();
    assert!(output.status.code() == Some(2) && errors(&output).contains("`reed=x` is no permission"));
}
