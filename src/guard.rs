//! Turns a panic of native code into an error, so that one bad call does not end the session.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use crate::error::without_backtrace;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; returns a panic in it as text, with its place in the program.
///
/// # Errors
/// The panic of `work`.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if GUARDED.get() {
                LAST.set(Some(describe(info)));
            } else {
                default(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result.map_err(|_| LAST.take().unwrap_or_else(|| "no message".to_owned()))
}

fn describe(info: &PanicHookInfo) -> String {
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    let first = match without_backtrace(&text) {
        "" => "no message",
        first => first,
    };
    match info.location() {
        Some(place) => format!("{first} ({}:{})", place.file(), place.line()),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_text() {
        assert_eq!(catch(|| 3), Ok(3));
        let text = catch(|| panic!("first line\nsecond")).unwrap_err();
        assert!(text.starts_with("first line (") && text.contains("guard.rs"), "{text}");
    }

    #[test]
    fn a_panic_of_libtorch_shows_no_backtrace() {
        for work in [
            // A plain call panics with the whole text, lines escaped; a scalar is dropped where an error is pending.
            || tch::Tensor::from_slice(&[1.0, 2.0]).view([3]),
            || tch::Tensor::arange(3, (tch::Kind::Float, tch::Device::Cuda(99))),
        ] {
            let text = catch(work).unwrap_err();
            assert!(text.contains("Torch(\""), "{text}");
            for part in ["Exception raised", "frame #", ".so", "\\n"] {
                assert!(!text.contains(part), "`{part}` is in: {text}");
            }
        }
    }
}
