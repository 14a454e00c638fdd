//! Changes JSON so that it stays JSON, or not.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::mutation::Mutator;

const SIGNS: &[&str] =
    &["{", "}", "[", "]", ",", ":", "\"", "true", "false", "null", "\"a\":", "{}", "[]", "\"\"", "{\"a\":", "[["];

/// Valid JSON texts, and the names and texts in them.
pub struct JsonMutator {
    values: Vec<Value>,
    words: Vec<String>,
    extremes: Vec<Value>,
    text: Mutator,
}

impl JsonMutator {
    /// Changes `seeds` with the help of all words that are in them.
    pub fn new(seeds: Vec<Vec<u8>>) -> Self {
        let values: Vec<Value> =
            seeds.iter().map(|seed| serde_json::from_slice(seed).expect("a seed is JSON")).collect();
        let mut words = Vec::new();
        values.iter().for_each(|value| collect(value, &mut words));
        words.sort();
        words.dedup();
        let quoted: Vec<String> = words.iter().map(|word| json!(word).to_string()).collect();
        let all: Vec<&str> = SIGNS.iter().copied().chain(quoted.iter().map(String::as_str)).collect();
        let extremes = json!([
            null, true, false, "", [], {}, "é\u{2028}\u{0}🙂", " ", [[]], [null], {"": {}}, 0, 1, -1, 2, 3, 7, 255, 65536,
            2147483647, 2147483648_u64, -2147483649_i64, i64::MAX, i64::MIN, u64::MAX, 1e308, -0.0, 0.5, 1e-300, 3.0, 1e19
        ]);
        let extremes = extremes.as_array().cloned().unwrap_or_default();
        Self { text: Mutator::new(seeds, &all), values, words, extremes }
    }

    /// A text, more often JSON than not.
    pub fn input(&self, random: &mut ChaCha8Rng) -> Vec<u8> {
        if random.gen_bool(0.3) {
            return self.text.input(random);
        }
        let mut value = self.values[random.gen_range(0..self.values.len())].clone();
        while {
            let place = random.gen_range(0..count(&value));
            self.change(node(&mut value, place).expect("a part"), random);
            random.gen_bool(0.5)
        } {}
        value.to_string().into_bytes()
    }

    fn change(&self, value: &mut Value, random: &mut ChaCha8Rng) {
        match (value, random.gen_range(0..6)) {
            (Value::Object(fields), 0..4) => self.change_fields(fields, random),
            (Value::Array(items), 0..4) => self.change_items(items, random),
            (Value::Number(number), 0..3) => {
                let old = number.as_f64().unwrap_or_default();
                let new = [old + 1.0, old - 1.0, -old, old * 2.0, old / 2.0, old * 1e9];
                let new = new.choose(random).copied().unwrap_or_default();
                // An integer stays one, where it can.
                let integer = number.is_i64() && new.fract() == 0.0 && new.abs() < 9e15;
                *number =
                    if integer { (new as i64).into() } else { json!(new).as_number().cloned().unwrap_or(0.into()) };
            }
            (value, 0..4) => *value = self.value(random),
            (value, _) => {
                // serde_json refuses more than 128 levels.
                let depth = if random.gen_bool(0.1) { random.gen_range(100..140) } else { 1 };
                for _ in 0..depth {
                    let inner = value.take();
                    *value = match random.gen_bool(0.5) {
                        true => Value::Array(vec![inner]),
                        false => Value::Object(Map::from_iter([("a".to_owned(), inner)])),
                    };
                }
            }
        }
    }

    fn change_fields(&self, fields: &mut Map<String, Value>, random: &mut ChaCha8Rng) {
        let name = fields.keys().nth(random.gen_range(0..fields.len().max(1))).cloned().unwrap_or_default();
        let word = self.words.choose(random).cloned().unwrap_or_default();
        match random.gen_range(0..4) {
            0 => drop(fields.remove(&name)),
            1 => drop(fields.insert(name, self.value(random))),
            2 => drop(fields.insert(word, self.value(random))),
            _ => {
                if let Some(value) = fields.remove(&name) {
                    fields.insert(word, value);
                }
            }
        }
    }

    fn change_items(&self, items: &mut Vec<Value>, random: &mut ChaCha8Rng) {
        let place = random.gen_range(0..=items.len());
        match random.gen_range(0..5) {
            0 => items.truncate(place),
            1 if place < items.len() => drop(items.remove(place)),
            2 if place < items.len() => items[place] = self.value(random),
            3 => items.extend(items.clone()),
            _ => items.insert(place, self.value(random)),
        }
    }

    /// Any value: extreme, of these files, or part of one of them.
    fn value(&self, random: &mut ChaCha8Rng) -> Value {
        match random.gen_range(0..5) {
            0 | 1 => self.extremes[random.gen_range(0..self.extremes.len())].clone(),
            2 => json!(self.words.choose(random)),
            _ => {
                let mut whole = self.values[random.gen_range(0..self.values.len())].clone();
                let place = random.gen_range(0..count(&whole));
                node(&mut whole, place).map(Value::take).unwrap_or_default()
            }
        }
    }
}

/// The names and texts in a value.
fn collect(value: &Value, words: &mut Vec<String>) {
    match value {
        Value::String(text) => words.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, words)),
        Value::Object(fields) => {
            words.extend(fields.keys().cloned());
            fields.values().for_each(|value| collect(value, words));
        }
        _ => {}
    }
}

/// The number of values in a value, with itself.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// The value at a place among all in a value.
fn node(value: &mut Value, place: usize) -> Option<&mut Value> {
    if place == 0 {
        return Some(value);
    }
    let mut before = 1;
    let parts: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => Vec::new(),
    };
    for part in parts {
        let size = count(part);
        if place < before + size {
            return node(part, place - before);
        }
        before += size;
    }
    None
}
