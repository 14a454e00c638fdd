//! Where a path really leads: without `.`, `..` and symbolic links, whether or not there is a file.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;

/// The absolute path that `path` leads to. What does not exist yet counts as plain names.
///
/// # Errors
/// Links that lead to each other in a circle; no working folder.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut resolved = PathBuf::new();
    let mut links = 0;
    let mut rest = steps(&std::path::absolute(path)?);
    while let Some(step) = rest.pop() {
        match step {
            Step::Root(root) => resolved = root,
            Step::Up => drop(resolved.pop()),
            Step::Name(name) => {
                let candidate = resolved.join(&name);
                match std::fs::read_link(&candidate) {
                    Ok(target) => {
                        links += 1;
                        if links > MOST_LINKS {
                            return Err(io::Error::other("symbolic links lead in a circle"));
                        }
                        rest.extend(steps(&target));
                    }
                    Err(_) => resolved = candidate,
                }
            }
        }
    }
    Ok(resolved)
}

enum Step {
    Root(PathBuf),
    Up,
    Name(OsString),
}

/// The parts of a path, the last one first.
fn steps(path: &Path) -> Vec<Step> {
    let step = |component: Component| match component {
        Component::Prefix(_) | Component::RootDir => Some(Step::Root(PathBuf::from(component.as_os_str()))),
        Component::CurDir => None,
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Name(name.to_owned())),
    };
    let mut steps: Vec<Step> = path.components().filter_map(step).collect();
    steps.reverse();
    steps
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_existing_path_resolves_as_the_system_does_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/file"), "").unwrap();
        symlink("b", root.join("a/relative")).unwrap();
        symlink(root.join("a"), root.join("absolute")).unwrap();
        symlink("absolute/relative/..", root.join("both")).unwrap();
        for path in ["a/b/../file", "./a/./file", "a/relative/../file", "absolute/file", "both/file", "both"] {
            let path = root.join(path);
            assert_eq!(resolve(&path).unwrap(), path.canonicalize().unwrap(), "{}", path.display());
        }
    }

    #[test]
    fn a_path_to_nothing_is_followed_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        symlink("/no/such/place", root.join("dangling")).unwrap();
        symlink("circle", root.join("circle")).unwrap();
        assert_eq!(resolve(&root.join("dangling/x")).unwrap(), Path::new("/no/such/place/x"));
        assert_eq!(resolve(&root.join("new/../../x")).unwrap(), root.parent().unwrap().join("x"));
        assert_eq!(resolve(&root.join("../../../../../../../../../../x")).unwrap(), Path::new("/x"));
        assert!(resolve(&root.join("circle")).is_err());
    }
}
