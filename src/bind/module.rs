//! Modules of native functions. A function whose last parameter is a map called `options` can also be called without it.

use rhai::plugin::{ModuleManifest, NativeCallContext, PluginFunc, RhaiResult};
use rhai::{Dynamic, Engine, FnNamespace, FuncMetadata, FuncRegistration, Map, Module, RhaiFunc};

use crate::catalog::OPTIONS;

/// Registers a module's functions for all scripts.
pub fn register(engine: &mut Engine, manifest: &'static ModuleManifest) {
    engine.register_global_module(module(manifest).into());
}

/// The module that `exported_manifest!` lists.
pub fn module(manifest: &'static ModuleManifest) -> Module {
    let mut module = Module::new();
    manifest.functions().iter().for_each(|function| function.register_into(&mut module));
    let known = metadata(&module);
    for function in manifest.functions() {
        function.with_param_types(&mut |types| {
            let is_known = |types: &[_]| {
                let same = |other: &&FuncMetadata| other.name == function.name() && *other.param_types == *types;
                known.iter().find(same)
            };
            let Some((_, required)) = types.split_last() else { return };
            let Some(whole) = is_known(types) else { return };
            let parameters = &whole.params_info[..types.len()];
            let takes_options = parameters.last().is_some_and(|last| last.split(':').next() == Some(OPTIONS));
            if !takes_options || is_known(required).is_some() {
                return;
            }
            let written = parameters[..required.len()].iter().chain([&whole.return_type]);
            let mut short = FuncRegistration::new(function.name()).with_params_info(written);
            if function.namespace() == FnNamespace::Global {
                short = short.in_global_namespace();
            }
            let call = RhaiFunc::Plugin { func: rhai::Shared::new(WithoutOptions(function.func())) };
            short.set_into_module_raw(&mut module, required, call);
        });
    }
    module
}

/// What a module says of its functions; only an engine tells.
fn metadata(module: &Module) -> Vec<FuncMetadata> {
    let mut engine = Engine::new_raw();
    engine.register_global_module(module.clone().into());
    engine.collect_fn_metadata(None, |info| Some(info.metadata.clone()), false)
}

/// A function that is called without its options.
struct WithoutOptions(&'static (dyn PluginFunc + Send + Sync));

impl PluginFunc for WithoutOptions {
    fn call(&self, context: Option<NativeCallContext>, arguments: &mut [&mut Dynamic]) -> RhaiResult {
        let mut options = Dynamic::from(Map::new());
        let mut all: Vec<&mut Dynamic> = arguments.iter_mut().map(|argument| &mut **argument).collect();
        all.push(&mut options);
        self.0.call(context, &mut all)
    }

    fn is_method_call(&self) -> bool {
        self.0.is_method_call()
    }

    fn has_context(&self) -> bool {
        self.0.has_context()
    }

    fn is_pure(&self) -> bool {
        self.0.is_pure()
    }

    fn is_volatile(&self) -> bool {
        self.0.is_volatile()
    }
}
