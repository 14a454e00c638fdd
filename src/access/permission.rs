//! The permissions that `--allow` gives a script.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// Something a script may touch; `None` stands for all of the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// Everything.
    All,
    /// Read this file, or what is below this folder.
    Read(Option<PathBuf>),
    /// Write this file, or below this folder; reading is included.
    Write(Option<PathBuf>),
    /// Connect to this host, as `host` or `host:port`.
    Connect(Option<String>),
    /// Read this environment variable.
    Variable(Option<String>),
}

/// The permissions in `read=PATH,write=PATH,net=HOST,env=NAME` or `all`. What follows a comma and has no `=` belongs to
/// the kind before it, and a kind without a value stands for all of it.
///
/// # Errors
/// An unknown kind, an empty value.
pub fn parse(text: &str) -> Result<Vec<Permission>> {
    let mut kind = None;
    let mut permissions = Vec::new();
    for part in text.split(',') {
        let (name, value) = match (part.split_once('='), kind) {
            (Some((name, value)), _) => (name, Some(value)),
            (None, Some(kind)) if !is_kind(part) => (kind, Some(part)),
            (None, _) => (part, None),
        };
        if value.is_some_and(str::is_empty) {
            return Err(Error::new(format!("`{part}` names nothing")).hint(HINT));
        }
        permissions.push(match name {
            "all" if value.is_none() => Permission::All,
            "read" => Permission::Read(value.map(PathBuf::from)),
            "write" => Permission::Write(value.map(PathBuf::from)),
            "net" => Permission::Connect(value.map(str::to_owned)),
            "env" => Permission::Variable(value.map(str::to_owned)),
            _ => return Err(Error::new(format!("`{part}` is no permission")).hint(HINT)),
        });
        kind = value.map(|_| name);
    }
    Ok(permissions)
}

const HINT: &str = "such as read=data,write=results,net=localhost:8000,env=NAME, or all";

fn is_kind(word: &str) -> bool {
    ["all", "read", "write", "net", "env"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_from_left_to_right() {
        let some = |path: &str| Some(PathBuf::from(path));
        assert_eq!(
            parse("read=a,b,write=c,net,env=X,Y").unwrap(),
            [
                Permission::Read(some("a")),
                Permission::Read(some("b")),
                Permission::Write(some("c")),
                Permission::Connect(None),
                Permission::Variable(Some("X".into())),
                Permission::Variable(Some("Y".into())),
            ]
        );
        assert_eq!(parse("all").unwrap(), [Permission::All]);
        assert_eq!(parse("read=a=b").unwrap(), [Permission::Read(some("a=b"))]);
        for wrong in ["", "everything", "reed=/x", "read=", "net,x", "all=1", "read=a,,b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
