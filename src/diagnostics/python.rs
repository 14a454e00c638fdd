//! What a user of Python writes, and how it is written here.

const LIST: &str = "a list is made by `map`: `(0..5).map(|i| i * 2)`, `items.map(|item| ...)`";

/// The hint for a word of another language.
pub fn word(word: &str) -> Option<&'static str> {
    Some(match word {
        "def" | "function" | "func" | "lambda" => "functions are `fn name(x) { ... }`, closures `|x| ...`",
        "var" | "val" | "auto" | "mut" => "variables are declared with `let`",
        "elif" | "elseif" => "write `else if`",
        "and" => "write `&&`",
        "or" => "write `||`",
        "not" => "write `!`",
        "None" | "null" | "nil" | "undefined" => "nothing is `()`",
        "True" => "write `true`",
        "False" => "write `false`",
        "self" => "write `this`",
        "raise" => "write `throw`",
        "except" => "write `catch`",
        "pass" => "an empty block is `{}`",
        "foreach" => "write `for item in array { ... }`",
        "range" => "a range is `0..10`; with steps `range(0, 10, 2)`",
        "str" => "write `x.to_string()`, or `${x}` between backquotes",
        "inf" | "Infinity" => "write `1.0 / 0.0`",
        "nan" | "NaN" => "write `0.0 / 0.0`",
        "torch" | "np" | "numpy" | "einops" => {
            "tensor functions need no module: `zeros([2, 3])`, `x.mean(-1)`, `x.softmax(-1)`; `help(\"tensors\")` lists them"
        }
        _ => return None,
    })
}

/// The hint for the name `name`, which is no variable, between `before` and `after`.
pub fn name(name: &str, before: &str, after: &str) -> Option<&'static str> {
    if name == "f" && after.starts_with(['"', '\'']) {
        return Some("text with values in it goes between backquotes: `x is ${x}`");
    }
    if before.ends_with("import") {
        return Some(
            "tensors, models and files need no import; a module is imported by text: `import \"std/metric\" as metric;`",
        );
    }
    let rest = after.split([']', ';', '\n']).next().unwrap_or_default();
    if rest.contains(" for ") || rest.starts_with("for ") {
        return Some(LIST);
    }
    if !after.starts_with('=') || after.starts_with("==") {
        return None;
    }
    if before.ends_with(['(', ',']) {
        return Some("arguments have no names: give the values in order; options go into a map, `#{ name: value }`");
    }
    before
        .ends_with([';', '{', '}'])
        .then_some("declare it first, as in `let x = 5;`")
        .or_else(|| before.is_empty().then_some("declare it first, as in `let x = 5;`"))
}

/// The hint for a syntax error at `token`, after the text `before`.
pub fn syntax(token: &str, before: &str) -> Option<&'static str> {
    Some(match token {
        "@" => "the product of matrices is `x.matmul(y)`",
        "::" => "a step is taken by `t.index_select(dim, range(0, t.shape[dim], 2))`",
        "for" => LIST,
        "(" | "[" if before.trim_end().ends_with("let") => {
            "one variable is declared at a time: `let pair = f(); let first = pair[0];`"
        }
        _ => return None,
    })
}

/// The hint for a function that has another name here.
pub fn function(name: &str) -> Option<&'static str> {
    Some(match name {
        "len" => "the length is `x.len()`",
        "list" => "an array is `[1, 2]`; of a range `(0..5).to_array()`",
        "dict" => "a map is `#{ key: value }`",
        "int" => "write `x.to_int()`",
        "float" => "write `x.to_float()`; of a tensor `x.to(\"f32\")`",
        "isinstance" => "write `type_of(x) == \"tensor\"`",
        "sorted" => "write `array.sort()`",
        "partial" => "write a closure: `|z| f(z, head)`",
        "FactoredMatrix" => "write `factored::new_product(a, b)`",
        "test_prompt" => "write `evals::test_prompt(model, prompt, answer)`",
        _ => return None,
    })
}

/// The hint for a member `name` that values of the type `kind` do not have.
pub fn member(kind: &str, name: &str) -> Option<&'static str> {
    match kind {
        "tensor" => tensor_member(name),
        "array" => array_member(name),
        "map" if name == "iter" => Some("go through `map.items()`, `map.keys()` or `map.values()`"),
        "model" => model_member(name),
        "cache" => cache_member(name),
        _ => None,
    }
}

fn tensor_member(name: &str) -> Option<&'static str> {
    Some(match name {
        "tolist" | "numpy" => "write `x.to_array()`",
        "contiguous" => "leave it out: a tensor is a plain value here",
        "requires_grad_" => "write `x.requires_grad = true`",
        "cpu" => "write `x.to(\"cpu\")`",
        "cuda" => "write `x.to(\"cuda:0\")`",
        "float" => "write `x.to(\"f32\")`",
        "double" => "write `x.to(\"f64\")`",
        "half" => "write `x.to(\"f16\")`",
        "long" | "int" => "write `x.to(\"i64\")`",
        "bool" => "write `x.to(\"bool\")`",
        "size" => "write `x.shape`, or `x.shape[0]`",
        "dim" => "write `x.ndim`",
        "var" => "write `x.variance()`",
        "mm" | "bmm" | "mv" => "write `x.matmul(y)`",
        "t" => "write `x.T`",
        "set" | "at" | "with_at" | "index_put" => "elements are read and set by position: `x[0, -1]`, `x[0, -1] = 1.0`",
        "logical_not" => "write `!x`",
        "logical_and" => "write `x & y`",
        "logical_or" => "write `x | y`",
        "fill_" | "zero_" | "add_" | "mul_" => "assign instead: `x += 1`, `x[..] = 0.0`",
        "map" => "a tensor's functions act on each element, as `x.exp()`; `x.to_array().map(..)` goes through an array",
        _ => return None,
    })
}

fn array_member(name: &str) -> Option<&'static str> {
    Some(match name {
        "append" => "one item is added by `a.push(item)`",
        "extend" => "write `a.append(other)`, or `a + other`",
        "shape" | "ndim" | "dtype" => "an array has a length, `a.len()`; `tensor(a)` makes a tensor of it",
        "std" | "softmax" | "argmax" | "argsort" | "median" | "cumsum" => "make a tensor of it first: `tensor(a)`",
        "slice" => "a part of an array is `a.extract(1..3)`",
        _ => return None,
    })
}

fn model_member(name: &str) -> Option<&'static str> {
    Some(match name {
        "layers" | "h" => "write `model.blocks`",
        "config" => "write `model.cfg`",
        "OV" => "write `circuits::ov(model, layer, head)`",
        "QK" => "write `circuits::qk(model, layer, head)`",
        "add_hook" | "hooks" | "reset_hooks" => {
            "hooks belong to one run: `model.run_with_hooks(tokens, [[name, |x| ...]])`"
        }
        "tokenizer" => "write `model.to_tokens(text)`, `model.to_string(tokens)`, `model.to_str_tokens(text)`",
        "eval" | "train" | "to" | "cuda" | "half" => {
            "device and dtype are chosen at loading: `load_model(name, #{ device: \"cuda:0\", dtype: \"bf16\" })`"
        }
        _ => return None,
    })
}

fn cache_member(name: &str) -> Option<&'static str> {
    Some(match name {
        "stack_activation" => "write `cache.stack(\"resid_post\")`",
        "stack_head_results" => "write `cache.stack_heads()`",
        "compute_head_results" => {
            "`cache.stack_heads()` needs `attn.hook_z` only; `attn.hook_result` is cached by name"
        }
        "stack_neuron_results" => "write `cache.stack_neurons(#{ neurons: [0, 1] })`",
        "get_neuron_results" => "write `cache.neuron_results(layer, #{ neurons: [0, 1] })`",
        "get_full_resid_decomposition" => {
            "take `cache.stack_heads()`, and `cache.stack_neurons()` or `cache.decompose_resid(#{ mode: \"mlp\" })`"
        }
        "logit_lens" => "write `model.logit_lens(cache[\"resid_post.3\"])`",
        _ => return None,
    })
}
