//! One live interpreter: its variables, functions and imports, carried from one entry to the next.

pub mod engine;
pub mod module;
mod nesting;

use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;

use rhai::{AST, Array, Dynamic, Engine, EvalAltResult, Module, Scope};

use crate::access::{self, Access};
use crate::bind::error::is_deferral;
use crate::bind::script::ScriptContext;
use crate::catalog::Catalog;
use crate::diagnostics::{self, Diagnostic};
use crate::limits::Limits;
use crate::syntax::scan;
use crate::syntax::source::{self, SourceMap};
use crate::tensor::autograd;
use crate::{guard, interrupt, output, progress};
use module::Modules;

/// Candidates for a string that is being typed as an argument of `method` of `receiver`.
pub type StringCompletion = fn(receiver: &Dynamic, method: &str) -> Vec<String>;

/// The script that a session runs, and its arguments.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// The script to run; none at the prompt.
    pub script: Option<PathBuf>,
    /// What runs the script, as it is typed behind `lancet`, for its help; `run` with its path if empty.
    pub command: String,
    /// The script's arguments.
    pub arguments: Vec<String>,
    /// The script's text, from which its help is taken.
    pub text: String,
    /// What it may touch.
    pub access: Access,
    /// What each evaluation may take.
    pub limits: Limits,
}

/// Why an evaluation returned no value.
#[derive(Debug)]
pub enum ScriptError {
    /// The script is wrong, or an operation in it failed.
    Failed(Box<Diagnostic>),
    /// Ctrl-C.
    Interrupted,
    /// What follows needs results of other shards.
    Deferred,
    /// The script ended itself with this exit code.
    Exit(u8),
}

/// A live interpreter. It stays on the thread that created it.
pub struct Session {
    engine: Engine,
    scope: Scope<'static>,
    /// The names of the variables and functions so far.
    names: HashSet<String>,
    /// The functions of all entries, and the statements of the one that runs.
    program: AST,
    sources: Rc<RefCell<SourceMap>>,
    modules: Modules,
    context: ScriptContext,
    access: Access,
    limits: Limits,
    catalog: OnceCell<Rc<Catalog>>,
    /// Complete string arguments at the prompt.
    pub completions: Vec<StringCompletion>,
}

impl Session {
    /// A fresh session.
    ///
    /// # Errors
    /// An error in the standard library.
    pub fn new(options: Options) -> Result<Self, ScriptError> {
        autograd::turn_off();
        let sources = Rc::new(RefCell::new(SourceMap::default()));
        let modules = Modules::new(sources.clone());
        let mut engine = engine::new(&options.limits);
        let mut constants = Module::new();
        let arguments: Array = options.arguments.iter().map(|argument| argument.clone().into()).collect();
        constants.set_var("ARGS", arguments);
        engine.register_global_module(constants.into());
        let context = ScriptContext::new(options.script, options.command, options.arguments, &options.text);
        engine.set_default_tag(Dynamic::from(context.clone()));
        engine.set_module_resolver(modules.clone());
        let loaded = modules.register_standard(&mut engine);
        let session = Self {
            engine,
            scope: Scope::new(),
            names: HashSet::new(),
            program: AST::empty(),
            sources,
            modules,
            context,
            access: options.access,
            limits: options.limits,
            catalog: OnceCell::new(),
            completions: vec![crate::bind::model::complete_hook],
        };
        match loaded {
            Ok(()) => Ok(session),
            Err(error) => Err(session.explain("std", &error)),
        }
    }

    /// Evaluates `text`, known as `name` in errors. Variables, functions and imports stay for the next call, including
    /// those from before an error.
    ///
    /// # Errors
    /// The text cannot be parsed, fails, is interrupted or ends itself.
    pub fn eval(&mut self, name: &str, text: &str) -> Result<Dynamic, ScriptError> {
        interrupt::clear();
        access::enter(self.access.clone());
        let _watch = self.limits.start();
        let entry = self.compile(name, text)?;
        let earlier = self.scope.len();
        self.names.extend(entry.iter_fn_def().map(|function| function.name.to_string()));
        // Joined in place: a copy of all functions for each entry would make a long session slow.
        self.program.combine(entry).set_source(name);
        let (engine, scope, program) = (&self.engine, &mut self.scope, &self.program);
        let result = guard::catch(|| engine.eval_ast_with_scope::<Dynamic>(scope, program));
        progress::settle();
        self.forget_hidden(earlier);
        self.keep_imports(name);
        self.program.clear_statements();
        if let Some(code) = self.context.take_exit() {
            return Err(ScriptError::Exit(code));
        }
        match result {
            // A native call may have ended before it noticed.
            Ok(Ok(_)) if interrupt::is_pending() && !interrupt::is_timed_out() => Err(ScriptError::Interrupted),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.explain(name, &error)),
            Err(panic) => Err(ScriptError::Failed(Box::new(diagnostics::internal_error(&panic)))),
        }
    }

    /// Parses `text` without running it.
    ///
    /// # Errors
    /// The first error in the text.
    pub fn check(&mut self, name: &str, text: &str) -> Result<(), ScriptError> {
        self.compile(name, text).map(|_| ())
    }

    fn compile(&mut self, name: &str, text: &str) -> Result<AST, ScriptError> {
        let text = &*source::normalized(text);
        let compiled = self.sources.borrow_mut().insert(name, text);
        let known = scan::words(text).into_iter().filter(|word| self.names.contains(*word));
        match engine::compile(&self.engine, &compiled, known) {
            Ok(mut ast) => {
                ast.set_source(name);
                self.sources.borrow_mut().record(name, &ast);
                Ok(ast)
            }
            Err(error) => Err(self.explain(name, &error.into())),
        }
    }

    /// Makes each variable declared since the scope had `earlier` entries the only one of its name. The others stay in
    /// place: copying them for each entry would make a long session slow.
    fn forget_hidden(&mut self, earlier: usize) {
        // The latest come first.
        let declared = || self.scope.iter_raw().take(self.scope.len() - earlier);
        let known = self.names.len();
        self.names.extend(declared().map(|(name, ..)| name.to_owned()));
        if self.names.len() - known == declared().count() {
            return;
        }
        let declared: Vec<(String, bool, Dynamic)> =
            declared().map(|(name, constant, value)| (name.to_owned(), constant, value.clone())).collect();
        self.scope.rewind(earlier);
        for (name, constant, value) in declared.into_iter().rev() {
            drop(self.scope.remove::<Dynamic>(&name));
            if constant {
                self.scope.push_constant_dynamic(name, value);
            } else {
                self.scope.push_dynamic(name, value);
            }
        }
    }

    /// Makes the modules that an entry imports known under their names from now on, inside functions too.
    fn keep_imports(&mut self, name: &str) {
        use rhai::{Expr, Stmt};
        for statement in self.program.statements() {
            let Stmt::Import(import, _) = statement else { continue };
            let (Expr::StringConstant(path, _), alias) = &**import else { continue };
            if alias.name.is_empty() {
                continue;
            }
            if let Some(module) = self.modules.loaded(name, path) {
                self.engine.register_static_module(alias.name.as_str(), module);
                self.catalog.take();
            }
        }
    }

    fn explain(&self, name: &str, error: &EvalAltResult) -> ScriptError {
        if (interrupt::is_pending() && !interrupt::is_timed_out()) || output::is_closed() {
            return ScriptError::Interrupted;
        }
        if is_deferral(error) {
            return ScriptError::Deferred;
        }
        let context = diagnostics::Context {
            sources: &self.sources.borrow(),
            catalog: &self.catalog(),
            scope: &self.scope,
            depth: self.limits.depth,
        };
        ScriptError::Failed(Box::new(diagnostics::explain(name, error, &context)))
    }

    /// The report of a failure, as shown on a terminal or in plain text.
    pub fn render(&self, diagnostic: &Diagnostic, color: bool) -> String {
        diagnostic.render(&self.sources.borrow(), color)
    }

    /// Everything scripts can call, including the functions defined so far.
    pub fn catalog(&self) -> Catalog {
        let registered = self.catalog.get_or_init(|| Rc::new(Catalog::of(&self.engine, None)));
        registered.with_functions(&self.program)
    }

    /// The variables, oldest first: name, whether constant, value.
    pub fn variables(&self) -> impl Iterator<Item = (&str, bool, &Dynamic)> {
        let latest_first: Vec<_> = self.scope.iter_raw().collect();
        latest_first.into_iter().rev()
    }

    /// The variable of that name.
    pub fn variable(&self, name: &str) -> Option<&Dynamic> {
        self.scope.get(name)
    }

    /// Sets a variable, in place of an earlier one of that name.
    pub fn set_variable(&mut self, name: &str, value: Dynamic) {
        drop(self.scope.remove::<Dynamic>(name));
        self.scope.push_dynamic(name, value);
        self.names.insert(name.to_owned());
    }

    /// Changes what evaluations may touch from now on.
    pub fn set_access(&mut self, access: Access) {
        self.access = access;
    }

    /// Makes imports read their files again.
    pub fn forget_modules(&mut self) {
        self.modules.forget_files();
    }
}
