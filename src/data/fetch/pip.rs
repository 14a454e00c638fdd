//! The package index that pip uses, from its variable, its configuration files or its own default.
//! <https://pip.pypa.io/en/stable/topics/configuration/>

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use configparser::ini::Ini;

use crate::cache;
use crate::error::{Error, Result};

/// The sections that pip reads for a download, the most specific first.
const SECTIONS: [&str; 2] = ["download", "global"];
/// The two spellings of the option that names the index.
const OPTION: [&str; 2] = ["index-url", "index_url"];

/// The settings of pip that name its package index.
#[derive(Debug, Clone)]
pub struct Settings {
    variable: Option<String>,
    files: Vec<PathBuf>,
}

impl Settings {
    /// Reads `PIP_INDEX_URL` and the variables that locate pip's configuration files.
    pub fn from_variables(lookup: &impl Fn(&str) -> Option<String>) -> Self {
        Self { variable: cache::variable(lookup, "PIP_INDEX_URL"), files: files(lookup) }
    }

    /// The address of the index: that of `PIP_INDEX_URL`, else of the configuration files, else pip's default.
    ///
    /// # Errors
    /// A configuration file that cannot be read or is malformed; no setting and no pip.
    pub fn index_url(&self) -> Result<String> {
        match &self.variable {
            Some(address) => Ok(address.clone()),
            None => configured(&self.files)?.or_else(default_of_pip).ok_or_else(|| {
                Error::new("no package index is configured, and there is no `python3` with pip to ask for its default")
                    .hint("set `PIP_INDEX_URL` to the address of a package index, such as https://example.org/simple")
            }),
        }
    }
}

/// The configuration files in pip's order: global, user, virtual environment, `PIP_CONFIG_FILE`. Later ones take
/// precedence.
fn files(lookup: &impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let variable = |name: &str| cache::variable(lookup, name);
    let named = variable("PIP_CONFIG_FILE");
    if named.as_deref() == Some("/dev/null") {
        // pip's way to ignore all files.
        return Vec::new();
    }
    let home = variable("HOME").map(PathBuf::from);
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let global = variable("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".to_owned());
    let global = global.split(':').filter(|folder| !folder.is_empty()).map(|folder| Path::new(folder).join("pip"));
    let mut files: Vec<PathBuf> = global.map(|folder| folder.join("pip.conf")).collect();
    files.push("/etc/pip.conf".into());
    files.extend(below_home(".pip/pip.conf"));
    let user = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| below_home(".config"));
    files.extend(user.map(|folder| folder.join("pip/pip.conf")));
    files.extend(variable("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("pip.conf")));
    files.extend(named.map(PathBuf::from));
    files
}

/// The index that configuration files name, if one does. A section takes precedence over a less specific one in any
/// file.
fn configured(files: &[PathBuf]) -> Result<Option<String>> {
    let files = files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let of_section = |section: &&str| {
        let value = |file: &Ini| OPTION.iter().find_map(|option| file.get(section, option));
        files.iter().rev().flatten().filter_map(value).find(|address| !address.is_empty())
    };
    Ok(SECTIONS.iter().find_map(of_section))
}

/// A configuration file as Python's `configparser` reads it; `None` where there is no such file.
fn read(path: &Path) -> Result<Option<Ini>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path, &error)),
    };
    let mut file = Ini::new();
    file.set_multiline(true);
    // An address may contain `#` and `;`: they begin a comment only at the start of a line.
    file.set_inline_comment_symbols(Some(&[]));
    match file.read(text) {
        Ok(_) => Ok(Some(file)),
        Err(problem) => Err(Error::new(format!("pip's configuration file `{}`: {problem}", path.display()))
            .hint("correct the file, or set `PIP_INDEX_URL`")),
    }
}

/// pip's default index, as the help of its command line states it.
fn default_of_pip() -> Option<String> {
    let mut help = Command::new("python3");
    // The width of the help: an address must not be broken over two lines.
    help.env("COLUMNS", "1000").args(["-m", "pip", "download", "--help"]);
    let output = help.output().ok().filter(|output| output.status.success())?;
    default_in_help(&String::from_utf8(output.stdout).ok()?)
}

fn default_in_help(help: &str) -> Option<String> {
    let (_, option) = help.split_once("--index-url <url>")?;
    let (_, default) = option.split_once("(default ")?;
    default.split_once(')').map(|(address, _)| address.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes configuration files in the order in which they are read, and returns the index that they name.
    fn configured_by(texts: &[&str]) -> Result<Option<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = |index: usize| folder.path().join(format!("{index}.conf"));
        for (index, text) in texts.iter().enumerate() {
            fs::write(path(index), text).unwrap();
        }
        // The last one does not exist.
        configured(&(0..=texts.len()).map(path).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_file_and_the_most_specific_section_count() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&["[global]\ntimeout = 60\n"], None),
            (&["[install]\nindex-url = https://a.example/simple\n"], None),
            (&["[global]\nindex-url = https://a.example/simple\n"], Some("https://a.example/simple")),
            (&["[global]\nindex_url: https://a.example/#x;y\n"], Some("https://a.example/#x;y")),
            (
                &["# pip\n[global]\nextra-index-url =\n  https://b.example\nindex-url=https://a.example\n"],
                Some("https://a.example"),
            ),
            (
                &["[global]\nindex-url = https://a.example\n", "[global]\nindex-url = https://b.example\n"],
                Some("https://b.example"),
            ),
            (
                &["[download]\nindex-url = https://a.example\n", "[global]\nindex-url = https://b.example\n"],
                Some("https://a.example"),
            ),
            (&["[global]\nindex-url = https://a.example\n", "[global]\nindex-url =\n"], Some("https://a.example")),
        ];
        for (texts, expected) in cases {
            assert_eq!(configured_by(texts).unwrap().as_deref(), *expected, "{texts:?}");
        }
        let error = configured_by(&["[global\nindex-url = x\n"]).unwrap_err();
        assert!(error.to_string().contains("0.conf"), "{error}");
    }

    #[test]
    fn files_are_read_in_pips_order() {
        let found = |variables: &[(&str, &str)]| {
            let lookup =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
            files(&lookup).iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        let usual =
            ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", "/home/me/.pip/pip.conf", "/home/me/.config/pip/pip.conf"];
        assert_eq!(found(&[("HOME", "/home/me")]), usual);
        let all = [
            ("HOME", "/home/me"),
            ("XDG_CONFIG_DIRS", "/a:/b"),
            ("XDG_CONFIG_HOME", "/c"),
            ("VIRTUAL_ENV", "/venv"),
            ("PIP_CONFIG_FILE", "/named.conf"),
        ];
        let expected = [
            "/a/pip/pip.conf",
            "/b/pip/pip.conf",
            "/etc/pip.conf",
            "/home/me/.pip/pip.conf",
            "/c/pip/pip.conf",
            "/venv/pip.conf",
            "/named.conf",
        ];
        assert_eq!(found(&all), expected);
        assert!(found(&[("HOME", "/home/me"), ("PIP_CONFIG_FILE", "/dev/null")]).is_empty());
    }

    #[test]
    fn the_variable_overrules_the_files() {
        let lookup = |name: &str| (name == "PIP_INDEX_URL").then(|| "https://a.example/simple".to_owned());
        assert_eq!(Settings::from_variables(&lookup).index_url().unwrap(), "https://a.example/simple");
    }

    #[test]
    fn the_default_is_read_from_pips_help() {
        let help = "  -i, --index-url <url>  Base URL of the index (default https://example.org/simple). This should";
        assert_eq!(default_in_help(help).as_deref(), Some("https://example.org/simple"));
        assert_eq!(default_in_help("usage"), None);
    }
}
