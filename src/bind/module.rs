//! Modules of native functions. A function whose last parameter is a map called `options` can also be called without
//! it.

use rhai::plugin::{ModuleManifest, NativeCallContext, PluginFunc, RhaiResult};
use rhai::{Dynamic, Engine, FnNamespace, FuncMetadata, FuncRegistration, Map, Module, RhaiFunc, Shared};

use super::handle::HandleType;
use crate::catalog::OPTIONS;
use crate::catalog::topic::Topic;

/// Registers a module's functions, which belong to `topic`, for all scripts.
pub fn register(engine: &mut Engine, topic: Topic, manifest: &'static ModuleManifest) {
    engine.register_global_module(module(topic, manifest).into());
}

/// The module that `exported_manifest!` lists; its functions belong to `topic`.
pub fn module(topic: Topic, manifest: &'static ModuleManifest) -> Module {
    let mut module = Module::new();
    let known = metadata(manifest);
    for entry in manifest.functions() {
        let Some(whole) = known.iter().find(|other| other.hash == entry.calc_hash(&[])) else {
            unreachable!("`{}` was registered", entry.name())
        };
        let mut add = |count: usize, function: Native| {
            let written = whole.params_info[..count].iter().chain([&whole.return_type]);
            let comments = std::iter::once(topic.comment()).chain(whole.comments.iter().map(ToString::to_string));
            let mut registration =
                FuncRegistration::new(entry.name()).with_params_info(written).with_comments(comments);
            if entry.namespace() == FnNamespace::Global {
                registration = registration.in_global_namespace();
            }
            let function = RhaiFunc::Plugin { func: Shared::new(function) };
            registration.set_into_module_raw(&mut module, &whole.param_types[..count], function);
        };
        let count = whole.num_params;
        add(count, Native { function: entry.func(), adds_options: false });
        let Some(last) = whole.params_info.last() else { continue };
        let required = &whole.param_types[..count - 1];
        let stands_alone = known.iter().any(|other| other.name == whole.name && *other.param_types == *required);
        if last.split(':').next() == Some(OPTIONS) && !stands_alone {
            add(count - 1, Native { function: entry.func(), adds_options: true });
        }
    }
    module
}

/// What is known of a module's functions, which only an engine tells.
fn metadata(manifest: &'static ModuleManifest) -> Vec<FuncMetadata> {
    let mut module = Module::new();
    manifest.functions().iter().for_each(|function| function.register_into(&mut module));
    let mut engine = Engine::new_raw();
    engine.register_global_module(module.into());
    engine.collect_fn_metadata(None, |info| Some(info.metadata.clone()), false)
}

/// A native function, perhaps called without its options.
struct Native {
    function: &'static (dyn PluginFunc + Send + Sync),
    adds_options: bool,
}

impl PluginFunc for Native {
    fn call(&self, context: Option<NativeCallContext>, arguments: &mut [&mut Dynamic]) -> RhaiResult {
        // A function takes what it is given by value; the handle stays, because Rhai writes the values in a chain of
        // properties and indexes back to where they were read.
        let taken = arguments.first().filter(|first| !self.is_method_call() && HandleType::of_value(first).is_some());
        let handle = taken.map(|first| (**first).clone());
        let result = if self.adds_options {
            let mut options = Dynamic::from(Map::new());
            let mut all: Vec<&mut Dynamic> = arguments.iter_mut().map(|argument| &mut **argument).collect();
            all.push(&mut options);
            self.function.call(context, &mut all)
        } else {
            self.function.call(context, arguments)
        };
        if let (Some(handle), Some(first)) = (handle, arguments.first_mut()) {
            **first = handle;
        }
        result
    }

    fn is_method_call(&self) -> bool {
        self.function.is_method_call()
    }

    fn has_context(&self) -> bool {
        self.function.has_context()
    }

    fn is_pure(&self) -> bool {
        self.function.is_pure()
    }

    fn is_volatile(&self) -> bool {
        self.function.is_volatile()
    }
}
