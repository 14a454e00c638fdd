//! The types of values that Lancet adds to scripts: the name of each, how its values are shown, its registration.

use std::any::type_name;

use rhai::{Dynamic, Engine, FuncRegistration};

use super::attribution::{Attribution, CircuitHandle, Edges};
use super::file::TextsHandle;
use super::linear::{Linear, PathGraphHandle, Paths, ScoresHandle};
use super::model::{Cache, GridHandle, Model, Planned, Prefix, Weights};
use super::run::RunHandle;
use super::sae::SaeHandle;
use super::write_back;
use crate::catalog::topic::Topic;
use crate::data::table::Table;
use crate::plot::Figure;
use crate::progress::Progress;
use crate::tensor::Tensor;

/// A type of values in scripts.
pub trait Handle: Clone + 'static {
    /// The name of the type in help, completion, messages and `type_of`.
    const NAME: &'static str;

    /// Whether its values never change. Then closures that captured one share it, and a hook may use the model that
    /// runs it.
    const IS_IMMUTABLE: bool = false;

    /// Whether a script can set its items.
    const HAS_ITEMS: bool = false;

    /// What to do where a script tries to set a property or an item.
    fn instead_of_setting() -> &'static str {
        "keep it in a variable and change that"
    }

    /// The value in one line, as it stands in a container.
    fn describe(&self) -> String;

    /// The value as `print` and the prompt show it.
    fn show(&self) -> String {
        self.describe()
    }

    /// The value as `debug` shows it.
    fn debug(&self) -> String {
        self.describe()
    }
}

/// A [`Handle`] at run time.
pub struct HandleType {
    /// The name of the type.
    pub name: &'static str,
    /// Whether its values never change.
    pub is_immutable: bool,
    register: fn(&mut Engine),
    holds: fn(&Dynamic) -> bool,
    describe: fn(&Dynamic) -> Option<String>,
    show: fn(&Dynamic) -> Option<String>,
}

impl HandleType {
    const fn of<T: Handle>() -> Self {
        Self {
            name: T::NAME,
            is_immutable: T::IS_IMMUTABLE,
            register: register_handle::<T>,
            holds: Dynamic::is::<T>,
            describe: |value| value.read_lock::<T>().map(|value| value.describe()),
            show: |value| value.read_lock::<T>().map(|value| value.show()),
        }
    }

    /// The type of a value; none for the types of the language.
    pub fn of_value(value: &Dynamic) -> Option<&'static Self> {
        HANDLES.iter().find(|handle| (handle.holds)(value))
    }
}

/// Every type that Lancet adds.
pub static HANDLES: [HandleType; 20] = [
    HandleType::of::<Attribution>(),
    HandleType::of::<Cache>(),
    HandleType::of::<CircuitHandle>(),
    HandleType::of::<Edges>(),
    HandleType::of::<Figure>(),
    HandleType::of::<GridHandle>(),
    HandleType::of::<Linear>(),
    HandleType::of::<Model>(),
    HandleType::of::<PathGraphHandle>(),
    HandleType::of::<Paths>(),
    HandleType::of::<Planned>(),
    HandleType::of::<Prefix>(),
    HandleType::of::<Progress>(),
    HandleType::of::<RunHandle>(),
    HandleType::of::<SaeHandle>(),
    HandleType::of::<ScoresHandle>(),
    HandleType::of::<Table>(),
    HandleType::of::<Tensor>(),
    HandleType::of::<TextsHandle>(),
    HandleType::of::<Weights>(),
];

/// Registers all of them.
pub fn register(engine: &mut Engine) {
    for handle in &HANDLES {
        (handle.register)(engine);
    }
}

/// Registers the name of a type, also for the catalog, and its `to_string` and `to_debug`.
fn register_handle<T: Handle>(engine: &mut Engine) {
    engine.register_type_with_name::<T>(T::NAME);
    // The catalog meets the type as functions write it in Rust.
    let written = type_name::<T>().rsplit("::").next().unwrap_or_default();
    engine.register_type_with_name_raw(written, T::NAME);
    if !T::HAS_ITEMS {
        write_back::register::<T>(engine);
    }
    let parameter = format!("{}: &mut {}", T::NAME, T::NAME);
    for (name, comment, text) in [
        ("to_string", "/// The value as `print` shows it.", T::show as fn(&T) -> String),
        ("to_debug", "/// The value as `debug` shows it.", T::debug),
    ] {
        FuncRegistration::new(name)
            .with_purity(true)
            .with_params_info([parameter.as_str(), "String"])
            .with_comments([&Topic::Utilities.comment(), comment])
            .register_into_engine(engine, move |value: &mut T| text(value));
    }
}

/// The value in one line; none for values of the language's types.
pub fn describe(value: &Dynamic) -> Option<String> {
    HandleType::of_value(value).and_then(|handle| (handle.describe)(value))
}

/// The value as `print` shows it; none for values of the language's types.
pub fn show(value: &Dynamic) -> Option<String> {
    HandleType::of_value(value).and_then(|handle| (handle.show)(value))
}

/// Whether the value never changes, such as a model.
pub fn is_immutable(value: &Dynamic) -> bool {
    HandleType::of_value(value).is_some_and(|handle| handle.is_immutable)
}
