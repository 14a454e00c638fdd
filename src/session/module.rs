//! Finds the modules of `import`: beside the importing file, in `LANCET_PATH`, in the standard library inside the
//! program.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use rhai::{AST, Engine, EvalAltResult, FnNamespace, Module, ModuleResolver, Position, Scope, Shared};

use super::engine;
use crate::access;
use crate::bind::error::{ScriptResult, value};
use crate::error::Result;
use crate::file;
use crate::syntax::source::{self, SourceMap};
use crate::syntax::standard_library::{self, PRELUDE};

type Shareable<T> = Rc<RefCell<T>>;

/// The modules loaded so far and the texts they came from.
#[derive(Clone, Default)]
pub struct Modules {
    loaded: Shareable<HashMap<String, Shared<Module>>>,
    loading: Shareable<Vec<String>>,
    sources: Shareable<SourceMap>,
}

struct Found {
    name: String,
    text: String,
}

impl Modules {
    /// No modules yet; their texts will go to `sources`.
    pub fn new(sources: Shareable<SourceMap>) -> Self {
        Self { sources, ..Self::default() }
    }

    /// Forgets the modules loaded from files, so that the next import reads them again.
    pub fn forget_files(&self) {
        self.loaded.borrow_mut().retain(|name, _| name.starts_with("std/"));
    }

    /// The module that an import of `path` in the text `source` has loaded.
    pub fn loaded(&self, source: &str, path: &str) -> Option<Shared<Module>> {
        self.loaded.borrow().get(&find(Some(source), path).ok()??.name).cloned()
    }

    /// Loads the whole standard library: the prelude for everywhere, the others as `name::`.
    ///
    /// # Errors
    /// An error in the library itself.
    pub fn register_standard(&self, engine: &mut Engine) -> ScriptResult<()> {
        for name in standard_library::names() {
            let module = self.load(engine, standard(name), Position::NONE)?;
            if name == PRELUDE {
                engine.register_global_module(module);
            } else {
                engine.register_static_module(name, module);
            }
        }
        Ok(())
    }

    fn load(&self, engine: &Engine, found: Option<Found>, position: Position) -> ScriptResult<Shared<Module>> {
        let Some(Found { name, text }) = found else {
            return Err(EvalAltResult::ErrorModuleNotFound(String::new(), position).into());
        };
        if let Some(module) = self.loaded.borrow().get(&name) {
            return Ok(module.clone());
        }
        let within = |error| Box::new(EvalAltResult::ErrorInModule(name.clone(), error, position));
        if self.loading.borrow().contains(&name) {
            return Err(within(format!("`{name}` imports itself, directly or through another file").into()));
        }
        let text = &*source::normalized(&text);
        let compiled = self.sources.borrow_mut().insert_module(&name, text);
        let mut ast =
            engine::compile(engine, &compiled, std::iter::empty()).map_err(|error| within(Box::new(error.into())))?;
        ast.set_source(name.as_str());
        self.sources.borrow_mut().record(&name, &ast);
        self.loading.borrow_mut().push(name.clone());
        let module = Module::eval_ast_as_new(Scope::new(), &ast, engine);
        self.loading.borrow_mut().pop();
        let module: Shared<Module> = with_global_closures(module.map_err(within)?, &ast).into();
        self.loaded.borrow_mut().insert(name.clone(), module.clone());
        Ok(module)
    }
}

/// The module with its closures in the global namespace, so that those which its functions return can be called.
#[expect(deprecated, reason = "the other way to set a namespace registers native functions only")]
fn with_global_closures(mut module: Module, ast: &AST) -> Module {
    for function in ast.iter_fn_def().filter(|function| function.name.starts_with("anon$")) {
        let hash = Module::new().set_script_fn(function.clone());
        module.update_fn_namespace(hash, FnNamespace::Global);
    }
    module.build_index();
    module
}

impl ModuleResolver for Modules {
    fn resolve(
        &self,
        engine: &Engine,
        source: Option<&str>,
        path: &str,
        position: Position,
    ) -> ScriptResult<Shared<Module>> {
        let found = find(source, path).map_err(|error| EvalAltResult::ErrorRuntime(value(&error), position))?;
        self.load(engine, found, position).map_err(|error| match *error {
            EvalAltResult::ErrorModuleNotFound(name, position) if name.is_empty() => {
                EvalAltResult::ErrorModuleNotFound(path.to_owned(), position).into()
            }
            _ => error,
        })
    }
}

fn standard(name: &str) -> Option<Found> {
    Some(Found { name: format!("std/{name}.rhai"), text: standard_library::text(name)?.to_owned() })
}

/// The module's text; `None` if there is none.
fn find(source: Option<&str>, path: &str) -> Result<Option<Found>> {
    let beside = source.and_then(|source| Path::new(source).parent()).map(Path::to_path_buf).unwrap_or_default();
    for folder in std::iter::once(beside).chain(access::search_path()) {
        if let Some(found) = read(&folder.join(path))? {
            return Ok(Some(found));
        }
    }
    Ok(path.strip_prefix("std/").and_then(|name| standard(name.strip_suffix(".rhai").unwrap_or(name))))
}

fn read(path: &Path) -> Result<Option<Found>> {
    let mut path = path.to_path_buf();
    if path.extension().is_none_or(|extension| extension != "rhai") {
        path.as_mut_os_string().push(".rhai");
    }
    if !path.is_file() {
        return Ok(None);
    }
    Ok(Some(Found { name: path.display().to_string(), text: file::read_text(&path)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_standard_module_stands_alone() {
        for name in standard_library::names() {
            let mut engine = crate::session::engine::new(&Default::default());
            let modules = Modules::default();
            engine.set_module_resolver(modules.clone());
            if name != PRELUDE {
                let prelude = modules.load(&engine, standard(PRELUDE), Position::NONE).expect("prelude");
                engine.register_global_module(prelude);
            }
            modules.load(&engine, standard(name), Position::NONE).map_err(|error| error.to_string()).expect(name);
        }
    }

    #[test]
    fn a_missing_module_is_named() {
        let error =
            Modules::default().resolve(&Engine::new(), None, "no/such", Position::NONE).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("Module not found: no/such"));
    }
}
