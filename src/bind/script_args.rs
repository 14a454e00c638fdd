//! The options a script declares: reading them from its arguments, and the help that lists them.

use std::fmt::Write;

use rhai::{Array, Dynamic, Map};

use super::convert::{number, type_name};
use super::display::literal;
use super::option::Options;
use crate::error::{Error, Result, nearest};

/// The type of an option, after that of its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Float,
    Flag,
    /// May be given several times; the items are like those of the default.
    Repeated,
}

/// An option a script declares.
#[derive(Debug)]
struct Declared {
    name: String,
    kind: Kind,
    /// The type of each value: `kind`, or that of the items.
    each: Kind,
    default: Dynamic,
    choices: Array,
    required: bool,
    help: String,
}

/// The options of a script.
#[derive(Debug)]
pub struct Declaration(Vec<Declared>);

/// What the arguments ask for.
#[derive(Debug)]
pub enum Parsed {
    /// The values, one for each option.
    Values(Map),
    /// `--help` was among them.
    Help,
}

impl Declaration {
    /// Reads what the script passed to `parse_args`.
    ///
    /// # Errors
    /// An option that is not described by a map, or is described wrongly.
    pub fn new(map: Map) -> Result<Self> {
        map.into_iter().map(|(name, value)| Declared::new(&name, value)).collect::<Result<_>>().map(Self)
    }

    /// Reads `arguments`: `--name value`, `--name=value`, `--flag`, `--no-flag`.
    ///
    /// # Errors
    /// An unknown option, a value of the wrong type, an option that is required and missing.
    pub fn parse(&self, arguments: &[String]) -> Result<Parsed> {
        let mut values = Map::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--help" || argument == "-h" {
                return Ok(Parsed::Help);
            }
            let Some(name) = argument.strip_prefix("--") else {
                return Err(Error::new(format!("unexpected argument `{argument}`")).hint(self.hint(argument)));
            };
            let (name, inline) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            if let Some(flag) = name.strip_prefix("no-").and_then(|name| self.find(name))
                && flag.kind == Kind::Flag
                && inline.is_none()
            {
                values.insert(flag.name.as_str().into(), false.into());
                continue;
            }
            let option = self
                .find(name)
                .ok_or_else(|| Error::new(format!("there is no option `--{name}`")).hint(self.hint(name)))?;
            if option.kind == Kind::Flag && inline.is_none() {
                values.insert(option.name.as_str().into(), true.into());
                continue;
            }
            let text = inline
                .or_else(|| rest.next().cloned())
                .ok_or_else(|| Error::new(format!("`--{name}` needs a value")).hint(option.usage()))?;
            option.store(&text, &mut values)?;
        }
        for option in &self.0 {
            if !values.contains_key(option.name.as_str()) {
                if option.required {
                    return Err(Error::new(format!("`--{}` is required", option.flag())).hint(option.usage()));
                }
                values.insert(option.name.as_str().into(), option.default.clone());
            }
        }
        Ok(Parsed::Values(values))
    }

    /// The help: what the script says about itself, what runs it, and its options.
    pub fn help(&self, command: &str, about: &str) -> String {
        let mut text = String::new();
        if !about.is_empty() {
            let _ = write!(text, "{about}\n\n");
        }
        let _ = write!(text, "Usage: lancet {command} [OPTIONS]\n\nOptions:\n");
        let help = ("--help".to_owned(), "print this help".to_owned());
        let lines: Vec<(String, String)> =
            self.0.iter().map(|option| (option.usage(), option.description())).chain([help]).collect();
        let width = lines.iter().map(|(usage, _)| usage.chars().count()).max().unwrap_or(0);
        for (usage, description) in lines {
            let _ = writeln!(text, "{}", format!("  {usage:width$}  {description}").trim_end());
        }
        text.trim_end().to_owned()
    }

    fn find(&self, name: &str) -> Option<&Declared> {
        self.0.iter().find(|option| option.flag() == name || option.name == name)
    }

    fn hint(&self, name: &str) -> String {
        let names: Vec<String> = self.0.iter().map(Declared::flag).collect();
        match nearest(name.trim_start_matches('-'), names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `--{near}`? `--help` lists all options"),
            None => "`--help` lists all options".to_owned(),
        }
    }
}

impl Declared {
    fn new(name: &str, value: Dynamic) -> Result<Self> {
        let Some(map) = value.try_cast::<Map>() else {
            return Err(Error::new(format!("the option `{name}` is not described by a map"))
                .hint(format!("write `{name}: #{{ default: ..., help: \"...\" }}`")));
        };
        Options::read("parse_args", map, |map| Self::read(name, map))
            .map_err(|error| error.context(format!("option `{name}`")))
    }

    fn read(name: &str, map: &mut Options) -> Result<Self> {
        let default = map.any("default").unwrap_or(Dynamic::UNIT);
        let kind_of = |value: &Dynamic| match type_name(value) {
            "integer" => Ok(Kind::Integer),
            "float" => Ok(Kind::Float),
            "bool" => Ok(Kind::Flag),
            "array" => Ok(Kind::Repeated),
            "string" | "()" => Ok(Kind::Text),
            other => Err(Error::new(format!("the default of `{name}` cannot be {other}"))
                .hint("a string, integer, float, bool, array of strings or numbers, or ()")),
        };
        let kind = kind_of(&default)?;
        let first = default.read_lock::<Array>().map(|items| items.first().map_or(Ok(Kind::Text), kind_of));
        let each = first.transpose()?.unwrap_or(kind);
        Ok(Self {
            name: name.to_owned(),
            kind,
            each,
            default,
            choices: map.array("choices")?.unwrap_or_default(),
            required: map.boolean("required")?.unwrap_or(false),
            help: map.string("help")?.unwrap_or_default(),
        })
    }

    /// The name as typed: `max_tokens` is `--max-tokens`.
    fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    fn usage(&self) -> String {
        let flag = self.flag();
        let choices: Vec<String> = self.choices.iter().map(ToString::to_string).collect();
        let value = match self.each {
            _ if self.kind == Kind::Flag => return format!("--{flag}"),
            _ if !choices.is_empty() => choices.join("|"),
            Kind::Integer => "INTEGER".to_owned(),
            Kind::Float => "NUMBER".to_owned(),
            Kind::Flag => "true|false".to_owned(),
            Kind::Text | Kind::Repeated => "TEXT".to_owned(),
        };
        format!("--{flag} <{value}>{}", if self.kind == Kind::Repeated { "..." } else { "" })
    }

    fn description(&self) -> String {
        let note = match () {
            () if self.required => "[required]".to_owned(),
            () if self.default.is_unit() || self.default.as_bool() == Ok(false) => String::new(),
            () if self.default.is_string() => format!("[default: {}]", self.default),
            () => format!("[default: {}]", literal(&self.default)),
        };
        format!("{} {note}", self.help).trim().to_owned()
    }

    fn store(&self, text: &str, values: &mut Map) -> Result<()> {
        let wrong =
            |wanted: &str| Error::new(format!("`--{}` must be {wanted}, not `{text}`", self.flag())).hint(self.usage());
        let value: Dynamic = match self.each {
            Kind::Integer => text.parse::<i64>().map_err(|_| wrong("an integer"))?.into(),
            Kind::Float => text.parse::<f64>().map_err(|_| wrong("a number"))?.into(),
            Kind::Flag => text.parse::<bool>().map_err(|_| wrong("true or false"))?.into(),
            Kind::Text | Kind::Repeated => text.to_owned().into(),
        };
        let same = |choice: &Dynamic| match (number(choice), number(&value)) {
            (Some(choice), Some(value)) => choice == value,
            _ => choice.to_string() == value.to_string(),
        };
        if !self.choices.is_empty() && !self.choices.iter().any(same) {
            let names: Vec<String> = self.choices.iter().map(ToString::to_string).collect();
            let wanted = format!("`--{}` must be one of {}, not `{text}`", self.flag(), names.join(", "));
            return Err(match nearest(text, names.iter().map(String::as_str)) {
                Some(near) => Error::new(wanted).hint(format!("did you mean `{near}`?")),
                None => Error::new(wanted),
            });
        }
        if self.kind == Kind::Repeated {
            let mut list =
                values.remove(self.name.as_str()).and_then(|list| list.into_array().ok()).unwrap_or_default();
            list.push(value);
            values.insert(self.name.as_str().into(), list.into());
        } else {
            values.insert(self.name.as_str().into(), value);
        }
        Ok(())
    }
}

/// What a script's leading comment (`//!` or `//` lines) says about it.
pub fn about(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.starts_with("#!") || line.trim().is_empty());
    let comment = lines.map_while(|line| line.trim_start().strip_prefix("//"));
    let text: Vec<&str> = comment.map(|line| line.trim_start_matches(['!', '/']).trim_end()).collect();
    text.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration() -> Declaration {
        let engine = rhai::Engine::new();
        let map = engine.eval::<Map>(
            r#"#{ model: #{ "default": "tiny", help: "which" }, max_tokens: #{ "default": 5 }, rate: #{ "default": 0.5 },
                  fast: #{ "default": false }, slow: #{ "default": true }, layer: #{ "default": [] }, head: #{ "default": [-1] }, out: #{},
                  task: #{ "default": "a", choices: ["a", "bee"] } }"#,
        );
        Declaration::new(map.expect("map")).expect("declaration")
    }

    fn parse(arguments: &[&str]) -> Result<Map> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        match declaration().parse(&arguments)? {
            Parsed::Values(map) => Ok(map),
            Parsed::Help => Err(Error::new("help")),
        }
    }

    fn value(map: &Map, key: &str) -> String {
        literal(map.get(key).expect(key))
    }

    #[test]
    fn types_follow_the_defaults() {
        let map = parse(&["--max-tokens", "7", "--rate=2", "--fast", "--no-slow", "--layer", "x", "--layer=y"])
            .expect("values");
        assert_eq!(map["max_tokens"].as_int(), Ok(7));
        assert_eq!(map["rate"].as_float(), Ok(2.0));
        assert_eq!(map["fast"].as_bool(), Ok(true));
        assert_eq!(map["slow"].as_bool(), Ok(false));
        assert_eq!(map["layer"].clone().into_array().map(|items| items.len()), Ok(2));
        assert_eq!(value(&map, "model"), "\"tiny\"");
        assert!(map["out"].is_unit());
        assert_eq!(value(&map, "head"), "[-1]");
        assert_eq!(value(&parse(&["--head", "3", "--head=-2"]).expect("values"), "head"), "[3, -2]");
        assert_eq!(parse(&["--head", "x"]).expect_err("an error").to_string(), "`--head` must be an integer, not `x`");
    }

    #[test]
    fn a_value_may_start_with_dashes_or_be_negative() {
        assert_eq!(value(&parse(&["--model", "--x"]).expect("values"), "model"), "\"--x\"");
        assert_eq!(parse(&["--rate", "-1.5"]).expect("values")["rate"].as_float(), Ok(-1.5));
    }

    #[test]
    fn faults_say_what_would_be_right() {
        for (arguments, message, hint) in [
            (vec!["--modle", "x"], "there is no option `--modle`", "did you mean `--model`?"),
            (vec!["--max-tokens", "x"], "`--max-tokens` must be an integer, not `x`", "--max-tokens <INTEGER>"),
            (vec!["--task", "be"], "`--task` must be one of a, bee, not `be`", "did you mean `bee`?"),
            (vec!["--model"], "`--model` needs a value", "--model <TEXT>"),
            (vec!["stray"], "unexpected argument `stray`", "`--help` lists all options"),
        ] {
            let error = parse(&arguments).expect_err(message);
            assert_eq!(error.to_string(), message);
            assert!(error.hint_text().is_some_and(|text| text.contains(hint)), "{error:?}");
        }
        assert_eq!(parse(&["--help"]).expect_err("help").to_string(), "help");
    }

    #[test]
    fn the_leading_comment_is_the_description() {
        assert_eq!(
            about("#!/usr/bin/env -S lancet run\n//! One.\n//!\n//! Two.\n\nlet x = 1; // no\n"),
            "One.\n\nTwo."
        );
        assert_eq!(about("let x = 1;\n// later\n"), "");
    }
}
